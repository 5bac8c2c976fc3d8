// Package spdy is the client's side of SPDY/3.1 as far as Kubernetes speaks it for port forwards: streams that one side
// opens, bytes both ways, their ends, and pings. It keeps a connection in a few kilobytes and one goroutine, opens streams
// without waiting, and leaves nothing behind when it is closed.
package spdy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Errors that end a connection or a stream.
var (
	ErrClosed     = errors.New("closed")
	ErrReset      = errors.New("the stream was reset by the far side")
	ErrPeerClosed = errors.New("the far side has closed the connection")
)

// Conn is a connection. Its methods may be called by several goroutines.
type Conn struct {
	transport      io.ReadWriteCloser
	maxQueuedBytes int // bytes of a stream that nobody has taken yet, beyond which nothing more is read
	reserve        *BufferReserve
	isShared       atomic.Bool  // others would wait for a stream whose bytes nobody takes
	borrowedBytes  atomic.Int64 // bytes of the reserve

	writeMu        sync.Mutex   // held while a frame is written
	hasSentHeaders bool         // a stream was opened; guarded by writing
	writeStartedAt atomic.Int64 // since when a write is under way, in Unix nanoseconds; 0: none is

	isDelivering   atomic.Bool  // the reader waits for somebody to take what has come
	lastReceivedAt atomic.Int64 // when something came last, in Unix nanoseconds

	mu           sync.Mutex
	streams      map[uint32]*Stream
	nextStreamID uint32
	pendingPings map[uint32]chan struct{}
	nextPingID   uint32
	err          error
	doneCh       chan struct{}
	readerDoneCh chan struct{} // closed when the reader has ended
}

// NewConn speaks over the carrier, which is the connection's to close. Budget is how many bytes of a stream may wait
// to be taken; then the whole connection waits, because the protocol as Kubernetes speaks it has no windows. Where others
// would wait with it, the reserve is used up first.
func NewConn(transport io.ReadWriteCloser, maxQueuedBytes int, reserve *BufferReserve) *Conn {
	c := &Conn{
		transport: transport, maxQueuedBytes: maxQueuedBytes, reserve: reserve,
		streams: make(map[uint32]*Stream), nextStreamID: 1,
		pendingPings: make(map[uint32]chan struct{}), nextPingID: 1,
		doneCh: make(chan struct{}), readerDoneCh: make(chan struct{}),
	}
	c.lastReceivedAt.Store(time.Now().UnixNano())
	go c.readFrames()
	return c
}

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.doneCh }

// Err is why it ended: ErrClosed after Close. Valid after Done.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection and all its streams, and returns when nothing of it runs any more. The far side is told if
// that can be done at once.
func (c *Conn) Close() error {
	c.closeWith(ErrClosed, c.sendGoAway)
	<-c.readerDoneCh
	return nil
}

// sendGoAway tells the far side, which may end the streams at that: by then they have ended here.
func (c *Conn) sendGoAway() {
	if !c.writeMu.TryLock() {
		return
	}
	defer c.writeMu.Unlock()
	// A goodbye must not wait for a peer that takes nothing.
	if deadliner, ok := c.transport.(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = deadliner.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_, _ = c.transport.Write(appendGoAway(nil))
	}
}

// Fail ends the connection for a reason; the first one counts.
func (c *Conn) Fail(err error) { c.fail(err) }

func (c *Conn) fail(err error) {
	if errors.Is(err, io.EOF) {
		err = ErrPeerClosed // for its streams that is no proper end
	}
	c.closeWith(err, func() {})
}

// closeWith ends the streams, has something said, and closes the carrier.
func (c *Conn) closeWith(err error, beforeClose func()) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	streams := c.streams
	c.streams = nil
	close(c.doneCh)
	c.mu.Unlock()
	for _, s := range streams {
		s.endWith(err)
	}
	beforeClose()
	_ = c.transport.Close()
}

// OpenStream opens a stream. It does not wait for the far side's word, which Stream.Replied tells. A stream that is opened
// finished carries nothing from here.
func (c *Conn) OpenStream(headers []Header, isWriteClosed bool) (*Stream, error) {
	var flags uint8
	if isWriteClosed {
		flags = flagFin
	}
	s := &Stream{conn: c, repliedCh: make(chan struct{}), isWriteClosed: isWriteClosed}
	s.cond.L = &s.mu
	// Streams must appear in the order of their numbers.
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if err := c.addStream(s); err != nil {
		return nil, err
	}
	frame := appendSynStream(nil, s.id, flags, headers, !c.hasSentHeaders)
	c.hasSentHeaders = true
	if err := c.writeLocked(frame); err != nil {
		return nil, err
	}
	return s, nil
}

func (c *Conn) addStream(s *Stream) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	if c.nextStreamID > 1<<31-1 {
		return errors.New("the connection has used up its stream numbers")
	}
	s.id = c.nextStreamID
	c.nextStreamID += 2
	c.streams[s.id] = s
	return nil
}

func (c *Conn) removeStream(s *Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.streams, s.id)
}

// write writes a whole frame.
func (c *Conn) write(frame []byte) error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	return c.writeLocked(frame)
}

func (c *Conn) writeLocked(frame []byte) error {
	c.writeStartedAt.Store(time.Now().UnixNano())
	_, err := c.transport.Write(frame)
	c.writeStartedAt.Store(0)
	if err != nil {
		c.fail(err)
		return c.Err()
	}
	return nil
}

// Ping sends a ping; the channel is closed when it is answered or the connection ends. It waits for nothing: where
// another frame is being written, the ping is sent after it.
func (c *Conn) Ping() (answered <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	pong := make(chan struct{})
	if c.err != nil {
		close(pong)
		return pong
	}
	id := c.nextPingID
	c.nextPingID += 2
	c.pendingPings[id] = pong
	go func() {
		if c.write(appendPing(nil, id)) != nil {
			c.completePing(id)
		}
	}()
	return pong
}

func (c *Conn) completePing(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if pong, ok := c.pendingPings[id]; ok {
		close(pong)
		delete(c.pendingPings, id)
	}
}

// IsBackedUp reports whether bytes are held up at one of the ends: a client that does not read, or a far end that takes
// nothing. An unanswered ping says little then.
func (c *Conn) IsBackedUp() bool {
	since := c.writeStartedAt.Load()
	return c.isDelivering.Load() || since != 0 && time.Since(time.Unix(0, since)) > time.Second
}

// SetShared tells whether several use the connection for different things.
func (c *Conn) SetShared(isShared bool) { c.isShared.Store(isShared) }

// IsCongested reports whether somebody who uses the connection takes his bytes so slowly that others wait for them, or soon will.
func (c *Conn) IsCongested() bool { return c.borrowedBytes.Load() > 0 || c.IsBackedUp() }

// LastReceived is when something came last.
func (c *Conn) LastReceived() time.Time { return time.Unix(0, c.lastReceivedAt.Load()) }

// StreamCount is how many are open.
func (c *Conn) StreamCount() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.streams)
}

// readFrames takes what comes until the connection ends.
func (c *Conn) readFrames() {
	defer close(c.readerDoneCh)
	defer c.completeAllPings()
	defer func() {
		if v := recover(); v != nil { // an error of ours costs this connection alone
			c.fail(fmt.Errorf("reading broke: %v", v))
		}
	}()
	var header [frameHeaderSize]byte
	for {
		if _, err := io.ReadFull(c.transport, header[:]); err != nil {
			c.fail(err)
			return
		}
		c.lastReceivedAt.Store(time.Now().UnixNano())
		if err := c.handleFrame(parseFrameHeader(header[:])); err != nil {
			c.fail(err)
			return
		}
	}
}

// completeAllPings tells those who wait for a pong that none will come.
func (c *Conn) completeAllPings() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, pong := range c.pendingPings {
		close(pong)
		delete(c.pendingPings, id)
	}
}

func (c *Conn) handleFrame(h frameHeader) error {
	if h.kind == 0 {
		return c.handleData(h)
	}
	if h.kind != frameSynReply && h.kind != frameRstStream && h.kind != framePing || h.length < 4 {
		return c.handleIgnoredFrame(h)
	}
	var number [4]byte
	if _, err := io.ReadFull(c.transport, number[:]); err != nil {
		return err
	}
	id := binary.BigEndian.Uint32(number[:])
	switch h.kind {
	case frameSynReply: // its headers say nothing that is needed
		if s := c.findStream(id); s != nil {
			s.markReplied()
			if h.flags&flagFin != 0 {
				s.endWith(io.EOF)
			}
		}
	case frameRstStream:
		if s := c.findStream(id); s != nil {
			s.endWith(ErrReset)
		}
	case framePing:
		if id%2 == 0 { // theirs
			if err := c.write(appendPing(nil, id)); err != nil {
				return err
			}
		} else {
			c.completePing(id)
		}
	}
	return c.discard(h.length - 4)
}

// handleIgnoredFrame passes over a frame that nothing depends on. A far side that goes away makes no streams any more; those that
// there are end by themselves, or with the connection.
func (c *Conn) handleIgnoredFrame(h frameHeader) error {
	if h.kind == frameSynStream {
		return fmt.Errorf("the far side opened a stream")
	}
	if err := c.discard(h.length); err != nil {
		return err
	}
	if h.kind == frameGoAway {
		return ErrPeerClosed
	}
	return nil
}

func (c *Conn) discard(n int) error {
	_, err := io.CopyN(io.Discard, c.transport, int64(n))
	return err
}

func (c *Conn) findStream(id uint32) *Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streams[id]
}

// handleData takes a data frame, in pieces that are as large as they can be: each is a write to a client.
func (c *Conn) handleData(h frameHeader) error {
	s := c.findStream(h.stream)
	for h.length > 0 {
		chunk := getChunk()
		n, err := io.ReadFull(c.transport, chunk.buf[:min(h.length, maxChunkSize)])
		chunk.data = chunk.buf[:n]
		h.length -= n
		if n == 0 || s == nil {
			chunk.Free()
		} else {
			c.deliver(s, chunk)
		}
		if err != nil {
			return err
		}
	}
	if s != nil && h.flags&flagFin != 0 {
		s.endWith(io.EOF)
	}
	return nil
}

func (c *Conn) deliver(s *Stream, chunk *Chunk) {
	if s.enqueue(chunk, false) {
		return
	}
	c.isDelivering.Store(true)
	s.enqueue(chunk, true)
	c.isDelivering.Store(false)
	c.lastReceivedAt.Store(time.Now().UnixNano()) // it was we who did not listen
}
