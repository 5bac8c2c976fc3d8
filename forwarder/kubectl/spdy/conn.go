// Package spdy is a client for the part of SPDY/3.1 that Kubernetes uses for port forwarding: streams that the client opens, data
// in both directions, half-close and reset, and pings. A connection costs a few kilobytes and one goroutine.
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
	ErrReset      = errors.New("the server reset the stream")
	ErrPeerClosed = errors.New("the server closed the connection")
)

// Conn is a SPDY connection. It is safe for concurrent use.
type Conn struct {
	transport      io.ReadWriteCloser
	maxQueuedBytes int // per stream; see NewConn
	reserve        *BufferReserve
	isShared       atomic.Bool  // set by SetShared
	borrowedBytes  atomic.Int64 // of the reserve, by all streams

	writeMu        sync.Mutex   // held while a frame is written
	hasSentHeaders bool         // a stream has been opened; guarded by writeMu
	writeStartedAt atomic.Int64 // start of the write in progress, in Unix nanoseconds; 0: none

	isDelivering   atomic.Bool  // the reader is blocked by a stream whose queue is full
	lastReceivedAt atomic.Int64 // time of the last frame, in Unix nanoseconds

	mu           sync.Mutex
	streams      map[uint32]*Stream
	nextStreamID uint32
	pendingPings map[uint32]chan struct{}
	nextPingID   uint32
	err          error
	doneCh       chan struct{}
	readerDoneCh chan struct{} // closed when the reader has ended
}

// NewConn starts a connection over transport, and closes it at its end. maxQueuedBytes is how many received bytes of a stream are
// queued; beyond, the connection stops reading, because Kubernetes does not use SPDY's flow control windows. On a shared connection
// (SetShared) a stream first borrows from the reserve, so that it does not delay the others.
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

// Err is why the connection ended: ErrClosed after Close. Valid after Done.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection and all its streams, sends GOAWAY unless a write blocks, and returns when the reader has ended.
func (c *Conn) Close() error {
	c.closeWith(ErrClosed, c.sendGoAway)
	<-c.readerDoneCh
	return nil
}

// sendGoAway is called after the streams have ended here, because the server may reset them in return.
func (c *Conn) sendGoAway() {
	if !c.writeMu.TryLock() {
		return
	}
	defer c.writeMu.Unlock()
	// Close must not wait for a server that does not read.
	if deadliner, ok := c.transport.(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = deadliner.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_, _ = c.transport.Write(appendGoAway(nil))
	}
}

// Fail ends the connection with an error. The first error counts.
func (c *Conn) Fail(err error) {
	if errors.Is(err, io.EOF) {
		err = ErrPeerClosed // for streams, io.EOF means a regular end
	}
	c.closeWith(err, func() {})
}

// closeWith ends the streams, calls beforeClose, and closes the transport.
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

// OpenStream opens a stream. It does not wait for the server's reply, see Stream.Replied. isWriteClosed opens it half-closed: nothing
// can be written to it.
func (c *Conn) OpenStream(headers []Header, isWriteClosed bool) (*Stream, error) {
	var flags uint8
	if isWriteClosed {
		flags = flagFin
	}
	s := &Stream{conn: c, repliedCh: make(chan struct{}), isWriteClosed: isWriteClosed}
	s.cond.L = &s.mu
	// Streams must be opened in the order of their ids.
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
		return errors.New("the connection has no stream ids left")
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
		c.Fail(err)
		return c.Err()
	}
	return nil
}

// Ping sends a ping. The channel is closed when the reply arrives or the connection ends. Ping does not block: if another frame is
// being written, the ping is sent after it.
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

// IsBackedUp reports whether data is blocked in one direction: a client does not read, or the server does not. A ping may be
// unanswered for that reason alone.
func (c *Conn) IsBackedUp() bool {
	since := c.writeStartedAt.Load()
	return c.isDelivering.Load() || since != 0 && time.Since(time.Unix(0, since)) > time.Second
}

// SetShared says whether several clients use the connection, and must not wait for each other.
func (c *Conn) SetShared(isShared bool) { c.isShared.Store(isShared) }

// IsCongested reports whether a client of the connection reads so slowly that others wait, or soon will.
func (c *Conn) IsCongested() bool { return c.borrowedBytes.Load() > 0 || c.IsBackedUp() }

// LastReceived is the time of the last received frame.
func (c *Conn) LastReceived() time.Time { return time.Unix(0, c.lastReceivedAt.Load()) }

// readFrames reads frames until the connection ends.
func (c *Conn) readFrames() {
	defer close(c.readerDoneCh)
	defer c.completeAllPings()
	defer func() {
		if v := recover(); v != nil { // a panic ends this connection only
			c.Fail(fmt.Errorf("panic while reading: %v", v))
		}
	}()
	var header [frameHeaderSize]byte
	for {
		if _, err := io.ReadFull(c.transport, header[:]); err != nil {
			c.Fail(err)
			return
		}
		c.lastReceivedAt.Store(time.Now().UnixNano())
		if err := c.handleFrame(parseFrameHeader(header[:])); err != nil {
			c.Fail(err)
			return
		}
	}
}

// completeAllPings closes the channels of all pings that wait for a reply.
func (c *Conn) completeAllPings() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, pong := range c.pendingPings {
		close(pong)
	}
	clear(c.pendingPings)
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
	case frameSynReply: // its headers are not needed
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
		if id%2 == 0 { // sent by the server
			if err := c.write(appendPing(nil, id)); err != nil {
				return err
			}
		} else {
			c.completePing(id)
		}
	}
	return c.discard(h.length - 4)
}

// handleIgnoredFrame skips a frame that is not needed. GOAWAY ends the connection: the server accepts no further streams.
func (c *Conn) handleIgnoredFrame(h frameHeader) error {
	if h.kind == frameSynStream {
		return errors.New("the server opened a stream")
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

// handleData reads a data frame in chunks as large as possible, because each becomes a write to a client.
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
	c.lastReceivedAt.Store(time.Now().UnixNano()) // nothing was read because this stream blocked it
}
