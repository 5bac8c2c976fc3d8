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
	ErrClosed = errors.New("closed")
	ErrReset  = errors.New("the stream was reset by the far side")
	ErrGone   = errors.New("the far side has closed the connection")
)

// Conn is a connection. Its methods may be called by several goroutines.
type Conn struct {
	carrier io.ReadWriteCloser
	budget  int // bytes of a stream that nobody has taken yet, beyond which nothing more is read
	reserve *Reserve
	crowded atomic.Bool  // others would wait for a stream whose bytes nobody takes
	lent    atomic.Int64 // bytes of the reserve

	writing sync.Mutex   // held while a frame is written
	opened  bool         // a stream was opened; guarded by writing
	stuck   atomic.Int64 // since when a write is under way, in Unix nanoseconds; 0: none is

	delivering atomic.Bool  // the reader waits for somebody to take what has come
	heard      atomic.Int64 // when something came last, in Unix nanoseconds

	mu      sync.Mutex
	streams map[uint32]*Stream
	next    uint32
	pings   map[uint32]chan struct{}
	pingID  uint32
	err     error
	done    chan struct{}
	reader  chan struct{} // closed when the reader has ended
}

// NewConn speaks over the carrier, which is the connection's to close. Budget is how many bytes of a stream may wait
// to be taken; then the whole connection waits, because the protocol as Kubernetes speaks it has no windows. Where others
// would wait with it, the reserve is used up first.
func NewConn(carrier io.ReadWriteCloser, budget int, reserve *Reserve) *Conn {
	c := &Conn{
		carrier: carrier, budget: budget, reserve: reserve,
		streams: make(map[uint32]*Stream), next: 1,
		pings: make(map[uint32]chan struct{}), pingID: 1,
		done: make(chan struct{}), reader: make(chan struct{}),
	}
	c.heard.Store(time.Now().UnixNano())
	go c.read()
	return c
}

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err is why it ended: ErrClosed after Close. Valid after Done.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection and all its streams, and returns when nothing of it runs any more. The far side is told if
// that can be done at once.
func (c *Conn) Close() error {
	c.end(ErrClosed, c.bye)
	<-c.reader
	return nil
}

// bye tells the far side, which may end the streams at that: by then they have ended here.
func (c *Conn) bye() {
	if !c.writing.TryLock() {
		return
	}
	defer c.writing.Unlock()
	// A goodbye must not wait for a peer that takes nothing.
	if deadliner, ok := c.carrier.(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = deadliner.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_, _ = c.carrier.Write(appendGoAway(nil))
	}
}

// Fail ends the connection for a reason; the first one counts.
func (c *Conn) Fail(err error) { c.fail(err) }

func (c *Conn) fail(err error) {
	if errors.Is(err, io.EOF) {
		err = ErrGone // for its streams that is no proper end
	}
	c.end(err, func() {})
}

// end ends the streams, has something said, and closes the carrier.
func (c *Conn) end(err error, say func()) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	streams := c.streams
	c.streams = nil
	close(c.done)
	c.mu.Unlock()
	for _, s := range streams {
		s.end(err)
	}
	say()
	_ = c.carrier.Close()
}

// Open opens a stream. It does not wait for the far side's word, which Stream.Replied tells. A stream that is opened
// finished carries nothing from here.
func (c *Conn) Open(headers []Header, finished bool) (*Stream, error) {
	var flags uint8
	if finished {
		flags = fin
	}
	s := &Stream{conn: c, replied: make(chan struct{}), finished: finished}
	s.cond.L = &s.mu
	// Streams must appear in the order of their numbers.
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.enter(s); err != nil {
		return nil, err
	}
	frame := appendOpen(nil, s.id, flags, headers, !c.opened)
	c.opened = true
	if err := c.writeLocked(frame); err != nil {
		return nil, err
	}
	return s, nil
}

func (c *Conn) enter(s *Stream) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	if c.next > 1<<31-1 {
		return errors.New("the connection has used up its stream numbers")
	}
	s.id = c.next
	c.next += 2
	c.streams[s.id] = s
	return nil
}

func (c *Conn) forget(s *Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.streams, s.id)
}

// write writes a whole frame.
func (c *Conn) write(frame []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.writeLocked(frame)
}

func (c *Conn) writeLocked(frame []byte) error {
	c.stuck.Store(time.Now().UnixNano())
	_, err := c.carrier.Write(frame)
	c.stuck.Store(0)
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
	id := c.pingID
	c.pingID += 2
	c.pings[id] = pong
	go func() {
		if c.write(appendPing(nil, id)) != nil {
			c.answered(id)
		}
	}()
	return pong
}

func (c *Conn) answered(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if pong, ok := c.pings[id]; ok {
		close(pong)
		delete(c.pings, id)
	}
}

// Backed reports whether bytes are held up at one of the ends: a client that does not read, or a far end that takes
// nothing. An unanswered ping says little then.
func (c *Conn) Backed() bool {
	since := c.stuck.Load()
	return c.delivering.Load() || since != 0 && time.Since(time.Unix(0, since)) > time.Second
}

// Crowd tells whether several use the connection for different things.
func (c *Conn) Crowd(several bool) { c.crowded.Store(several) }

// Burdened reports whether somebody who uses the connection takes his bytes so slowly that others wait for them, or soon will.
func (c *Conn) Burdened() bool { return c.lent.Load() > 0 || c.Backed() }

// Heard is when something came last.
func (c *Conn) Heard() time.Time { return time.Unix(0, c.heard.Load()) }

// Streams is how many are open.
func (c *Conn) Streams() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.streams)
}

// read takes what comes until the connection ends.
func (c *Conn) read() {
	defer close(c.reader)
	defer c.abandon()
	defer func() {
		if what := recover(); what != nil { // an error of ours costs this connection alone
			c.fail(fmt.Errorf("reading broke: %v", what))
		}
	}()
	var start [headSize]byte
	for {
		if _, err := io.ReadFull(c.carrier, start[:]); err != nil {
			c.fail(err)
			return
		}
		c.heard.Store(time.Now().UnixNano())
		if err := c.take(parseHead(start[:])); err != nil {
			c.fail(err)
			return
		}
	}
}

// abandon tells those who wait for a pong that none will come.
func (c *Conn) abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, pong := range c.pings {
		close(pong)
		delete(c.pings, id)
	}
}

func (c *Conn) take(h head) error {
	if h.kind == 0 {
		return c.data(h)
	}
	if h.kind != synReply && h.kind != rstStream && h.kind != ping || h.length < 4 {
		return c.control(h)
	}
	var number [4]byte
	if _, err := io.ReadFull(c.carrier, number[:]); err != nil {
		return err
	}
	id := binary.BigEndian.Uint32(number[:])
	switch h.kind {
	case synReply: // its headers say nothing that is needed
		if s := c.stream(id); s != nil {
			s.reply()
			if h.flags&fin != 0 {
				s.end(io.EOF)
			}
		}
	case rstStream:
		if s := c.stream(id); s != nil {
			s.end(ErrReset)
		}
	case ping:
		if id%2 == 0 { // theirs
			if err := c.write(appendPing(nil, id)); err != nil {
				return err
			}
		} else {
			c.answered(id)
		}
	}
	return c.skip(h.length - 4)
}

// control passes over a frame that nothing depends on. A far side that goes away makes no streams any more; those that
// there are end by themselves, or with the connection.
func (c *Conn) control(h head) error {
	if h.kind == synStream {
		return fmt.Errorf("the far side opened a stream")
	}
	if err := c.skip(h.length); err != nil {
		return err
	}
	if h.kind == goAway {
		return ErrGone
	}
	return nil
}

func (c *Conn) skip(n int) error {
	_, err := io.CopyN(io.Discard, c.carrier, int64(n))
	return err
}

func (c *Conn) stream(id uint32) *Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streams[id]
}

// data takes a data frame, in pieces that are as large as they can be: each is a write to a client.
func (c *Conn) data(h head) error {
	s := c.stream(h.stream)
	for h.length > 0 {
		piece := takePiece()
		n, err := io.ReadFull(c.carrier, piece.room[:min(h.length, chunkSize)])
		piece.bytes = piece.room[:n]
		h.length -= n
		if n == 0 || s == nil {
			piece.Free()
		} else {
			c.deliver(s, piece)
		}
		if err != nil {
			return err
		}
	}
	if s != nil && h.flags&fin != 0 {
		s.end(io.EOF)
	}
	return nil
}

func (c *Conn) deliver(s *Stream, piece *Piece) {
	if s.put(piece, false) {
		return
	}
	c.delivering.Store(true)
	s.put(piece, true)
	c.delivering.Store(false)
	c.heard.Store(time.Now().UnixNano()) // it was we who did not listen
}
