package mux

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// The messages of RFC 4254, section 9, that concern channels.
const (
	channelOpen     = 90
	channelOpened   = 91
	channelRefused  = 92
	channelWindow   = 93
	channelData     = 94
	channelExtended = 95
	channelEOF      = 96
	channelClose    = 97
	channelRequest  = 98
	channelFailure  = 100
)

const (
	headSize = 4 + 1 + 1 // of a message: the length of what follows, no padding, the kind
	dataHead = headSize + 4 + 4
	maxData  = 32 << 10  // bytes in one message: what ssh and sshd use
	maxFrame = 256 << 10 // bytes: more than the master would take itself
	reading  = 256 << 10 // bytes of the buffer for what comes: what a socket holds
)

// Errors that end a connection or a stream.
var (
	ErrClosed = errors.New("closed")
	ErrGone   = errors.New("the ssh master is gone")
)

// Refused is the far side's word that it does not open a channel.
type Refused struct {
	Code uint32 // of RFC 4254, section 5.1
	Text string // what the server says of it
}

// The codes of Refused.
const (
	Prohibited    = 1
	ConnectFailed = 2
	UnknownType   = 3
	Shortage      = 4
)

// Error is the refusal in the words that ssh has for it.
func (r *Refused) Error() string {
	reason := "unknown reason"
	switch r.Code {
	case Prohibited:
		reason = "administratively prohibited"
	case ConnectFailed:
		reason = "connect failed"
	case UnknownType:
		reason = "unknown channel type"
	case Shortage:
		reason = "resource shortage"
	}
	if r.Text != "" {
		reason += ": " + r.Text
	}
	return "open failed: " + reason
}

// Conn opens channels through a master. Its methods may be called by several goroutines.
type Conn struct {
	socket  net.Conn
	windows windows
	refused atomic.Int64
	heard   atomic.Int64 // when something came last, in Unix nanoseconds

	writing sync.Mutex // held while a message is written

	mu      sync.Mutex
	streams map[uint32]*Stream
	next    uint32
	err     error
	done    chan struct{}
	reader  chan struct{} // closed when the reader has ended
}

func newConn(socket net.Conn) *Conn {
	c := &Conn{
		socket: socket, streams: make(map[uint32]*Stream), done: make(chan struct{}), reader: make(chan struct{}),
	}
	c.heard.Store(time.Now().UnixNano())
	go c.read()
	return c
}

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err is why it ended: ErrClosed after Close, ErrGone when the master did. Valid after Done.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection and all its streams, and returns when nothing of it runs any more. To a master that has
// refused channels it is the end.
func (c *Conn) Close() error {
	c.fail(ErrClosed)
	<-c.reader
	return nil
}

// Streams is how many channels there are, those that are being opened among them.
func (c *Conn) Streams() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.streams)
}

// Heard is when something came last from the far side.
func (c *Conn) Heard() time.Time { return time.Unix(0, c.heard.Load()) }

// Refusals is how many channels the far side has refused. The master keeps some memory for each.
func (c *Conn) Refusals() int { return int(c.refused.Load()) }

func (c *Conn) fail(err error) {
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
		s.fail(err)
	}
	_ = c.socket.Close()
}

// Open opens a channel to an address as the far side sees it, and returns when the far side has connected. An error
// is a *Refused, the context's, or why the connection ended.
func (c *Conn) Open(ctx context.Context, host string, port int) (*Stream, error) {
	// The originator is for the server's log.
	to := number(text(nil, host), uint32(port)) //nolint:gosec // it is a port
	return c.open(ctx, "direct-tcpip", number(text(to, "127.0.0.1"), 0))
}

// OpenUnix opens a channel to a unix socket of the far side's.
func (c *Conn) OpenUnix(ctx context.Context, path string) (*Stream, error) {
	return c.open(ctx, "direct-streamlocal@openssh.com", number(text(text(nil, path), ""), 0))
}

// Ping returns when the far side has answered something. It asks for a channel of a kind that no server has: nothing is
// connected for it, and every server must answer.
func (c *Conn) Ping(ctx context.Context) error {
	s, err := c.open(ctx, "ping@localport.sh", nil)
	if err == nil {
		return s.Close()
	}
	if _, refused := errors.AsType[*Refused](err); refused {
		return nil
	}
	return err
}

func (c *Conn) open(ctx context.Context, kind string, more []byte) (*Stream, error) {
	s := newStream(c)
	if err := c.enter(s); err != nil {
		return nil, err
	}
	began := time.Now()
	words := number(number(number(text(nil, kind), s.id), firstWindow), maxData)
	if err := c.send(s, channelOpen, net.Buffers{message(channelOpen, append(words, more...))}); err != nil {
		return nil, err
	}
	select {
	case <-s.opened:
		c.windows.took(time.Since(began))
		return s.verdict()
	case <-ctx.Done():
		_ = s.Close()
		return nil, ctx.Err()
	}
}

func (c *Conn) enter(s *Stream) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	for c.streams[c.next] != nil {
		c.next++
	}
	s.id = c.next
	c.next++
	c.streams[s.id] = s
	return nil
}

func (c *Conn) forget(s *Stream) {
	c.windows.forget(s)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.streams, s.id)
}

func (c *Conn) stream(id uint32) *Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streams[id]
}

// message is one of a kind.
func message(kind byte, words []byte) []byte {
	frame := make([]byte, 0, headSize+len(words))
	frame = append(number(frame, uint32(2+len(words))), 0, kind) //nolint:gosec // it is short
	return append(frame, words...)
}

// send sends a message that is about a stream. After the one that closes it none is sent: its number may be that of another
// channel by then.
func (c *Conn) send(s *Stream, kind byte, frames net.Buffers) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if s.silent || s.halved && kind == channelData {
		return net.ErrClosed
	}
	s.silent = kind == channelClose
	s.halved = s.halved || kind == channelEOF
	if _, err := frames.WriteTo(c.socket); err != nil {
		c.fail(ErrGone)
		return c.Err()
	}
	return nil
}

// read takes what comes until the connection ends.
func (c *Conn) read() {
	defer close(c.reader)
	defer func() {
		if what := recover(); what != nil { // an error of ours costs this connection alone
			c.fail(fmt.Errorf("reading broke: %v", what))
		}
	}()
	in := bufio.NewReaderSize(c.socket, reading)
	for {
		if err := c.take(in); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
				err = ErrGone
			}
			if _, broken := errors.AsType[net.Error](err); broken {
				err = ErrGone
			}
			c.fail(err)
			return
		}
	}
}

// take takes one message.
func (c *Conn) take(in *bufio.Reader) error {
	var head [headSize]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return err
	}
	c.heard.Store(time.Now().UnixNano())
	n, kind := int(binary.BigEndian.Uint32(head[:]))-2, head[5]
	if n < 4 || n > maxFrame {
		return fmt.Errorf("the ssh master sent a message of %d bytes", n)
	}
	if kind == channelData {
		return c.data(in, n)
	}
	message := make([]byte, n)
	if _, err := io.ReadFull(in, message); err != nil {
		return err
	}
	return c.said(kind, &words{rest: message})
}

// data takes bytes of a stream. They lie in the reader's buffer when the stream is asked to take them, so that nobody ever
// waits for the master with a stream's lock.
func (c *Conn) data(in *bufio.Reader, n int) error {
	if n < 8 || n > 8+maxData {
		return fmt.Errorf("the ssh master sent %d bytes of a channel at once", n)
	}
	message, err := in.Peek(n)
	if err != nil {
		return err
	}
	if int(binary.BigEndian.Uint32(message[4:])) != n-8 {
		return errors.New("the ssh master sent bytes whose number is wrong")
	}
	if s := c.stream(binary.BigEndian.Uint32(message)); s != nil {
		err = s.put(message[8:])
	}
	_, _ = in.Discard(n)
	return err
}

// said takes a message that is about a channel. One about a channel that there is no more is passed over.
func (c *Conn) said(kind byte, w *words) error {
	s := c.stream(w.number())
	if s == nil {
		return nil
	}
	switch kind {
	case channelOpened:
		s.confirm(w.number(), int(w.number()), int(w.number()))
	case channelRefused:
		c.refused.Add(1)
		s.refuse(&Refused{Code: w.number(), Text: string(w.text())})
	case channelWindow:
		s.widen(int(w.number()))
	case channelEOF:
		s.finish()
	case channelClose:
		s.closed()
	case channelRequest:
		w.text()
		if w.flag() {
			_ = s.send(channelFailure, nil) // unless it is closed
		}
		return nil
	case channelExtended: // no channel of ours has any
		return errors.New("the ssh master sent bytes of a kind that was not asked for")
	}
	if w.bad {
		return fmt.Errorf("the ssh master sent a short message of kind %d", kind)
	}
	return nil
}
