// Package socks is the server's side of SOCKS 4, 4a and 5 for a connection that goes on as another: the client says where
// it wants to go, and from then on its bytes are that connection's. Names are not resolved here.
package socks

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// Open connects to where a client wants to go. An error may be a Refusal.
type Open func(ctx context.Context, host string, port int) (forwarder.Stream, error)

// Refusal tells a client why it cannot go there.
type Refusal struct {
	Reply Reply
	Err   error
}

func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap is the error behind it.
func (r *Refusal) Unwrap() error { return r.Err }

// Reply is what SOCKS 5 has to say of a request (RFC 1928, section 6).
type Reply byte

// The replies that are given here.
const (
	granted     Reply = 0
	General     Reply = 1
	Prohibited  Reply = 2
	Unreachable Reply = 4
	Refused     Reply = 5
	unsupported Reply = 7
	badAddress  Reply = 8
)

// mostAsked is more than any request is long, in bytes.
const mostAsked = 1024

var errSpeech = errors.New("the client does not speak SOCKS")

// Conn is a client's connection as the far side of a relay. Before the client's request is granted, what is written is the
// request, and what is read is the answer to it.
type Conn struct {
	open   func(host string, port int) (forwarder.Stream, error)
	closed <-chan struct{} // closed by Close
	cancel context.CancelFunc

	mu       sync.Mutex
	cond     sync.Cond
	asked    []byte // not understood yet
	greeted  bool   // SOCKS 5: the method is agreed on
	answers  []byte // not read yet
	way      forwarder.Stream
	err      error // why there will be none
	finished bool  // the client has said that nothing more comes
	deadline time.Time
	alarm    *time.Timer
}

var _ forwarder.Stream = (*Conn)(nil)

// New is a connection that goes wherever its client asks. It is closed by Close, and of no use after ctx has ended.
func New(ctx context.Context, open Open) *Conn {
	ctx, cancel := context.WithCancel(ctx)
	c := &Conn{closed: ctx.Done(), cancel: cancel}
	c.open = func(host string, port int) (forwarder.Stream, error) { return open(ctx, host, port) }
	c.cond.L = &c.mu
	return c
}

// ended reports whether Close was called.
func (c *Conn) ended() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// Write takes what the client sends. It waits while the far side connects.
func (c *Conn) Write(p []byte) (int, error) {
	if way := c.through(); way != nil {
		return way.Write(p)
	}
	if c.ended() {
		return 0, net.ErrClosed
	}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return 0, c.err
	}
	c.asked = append(c.asked, p...)
	c.mu.Unlock()
	if err := c.negotiate(); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *Conn) through() forwarder.Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.way
}

// negotiate goes as far as what the client has said allows. Only Write calls it.
func (c *Conn) negotiate() error {
	for {
		c.mu.Lock()
		asked, greeted := c.asked, c.greeted
		c.mu.Unlock()
		r, n, answer, err := parse(asked, greeted)
		switch {
		case err != nil:
			return c.fail(answer, err)
		case n == 0 && len(asked) > mostAsked:
			return c.fail(nil, errSpeech)
		case n == 0:
			return nil
		}
		c.mu.Lock()
		c.asked, c.greeted = asked[n:], true
		c.answers = append(c.answers, answer...)
		c.cond.Broadcast()
		c.mu.Unlock()
		if r != nil {
			return c.connect(r)
		}
	}
}

// connect goes where the client wants to, with all that it has said behind its request.
func (c *Conn) connect(r *request) error {
	way, err := c.open(r.host, r.port)
	if err != nil {
		reply := General
		if refusal, ok := errors.AsType[*Refusal](err); ok {
			reply = refusal.Reply
		}
		return c.fail(r.answer(reply), err)
	}
	c.mu.Lock()
	rest, finished := c.asked, c.finished
	c.way, c.asked = way, nil
	c.answers = append(c.answers, r.answer(granted)...)
	_ = way.SetReadDeadline(c.deadline)
	c.cond.Broadcast()
	c.mu.Unlock()
	if c.ended() {
		return way.Close()
	}
	if len(rest) > 0 {
		if _, err := way.Write(rest); err != nil {
			return err
		}
	}
	if finished {
		return way.CloseWrite()
	}
	return nil
}

// fail ends the connection after an answer.
func (c *Conn) fail(answer []byte, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers = append(c.answers, answer...)
	c.err = err
	c.cond.Broadcast()
	return nil // the client is to read the answer first
}

// Next is the answers, and then what comes from where the client went.
func (c *Conn) Next() ([]byte, error) {
	c.mu.Lock()
	for len(c.answers) == 0 && c.way == nil && c.err == nil && !c.ended() && !c.late() {
		c.cond.Wait()
	}
	answers, way, late := c.answers, c.way, c.late()
	c.answers = nil
	err := c.err
	c.mu.Unlock()
	switch {
	case c.ended():
		return nil, net.ErrClosed
	case len(answers) > 0:
		return answers, nil
	case way != nil:
		return way.Next()
	case err != nil:
		return nil, errEnd
	case late:
		return nil, os.ErrDeadlineExceeded
	}
	return nil, errEnd
}

func (c *Conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	if len(c.answers) == 0 && c.way != nil {
		way := c.way
		c.mu.Unlock()
		return way.Read(p)
	}
	c.mu.Unlock()
	b, err := c.Next()
	n := copy(p, b)
	if n < len(b) {
		c.mu.Lock()
		c.answers = append(b[n:len(b):len(b)], c.answers...)
		c.mu.Unlock()
	}
	return n, err
}

// CloseWrite says that the client sends nothing more.
func (c *Conn) CloseWrite() error {
	c.mu.Lock()
	c.finished = true
	way := c.way
	c.mu.Unlock()
	if way != nil {
		return way.CloseWrite()
	}
	return nil
}

// WaitEnd returns when the far side has let go.
func (c *Conn) WaitEnd() error {
	c.mu.Lock()
	for c.way == nil && c.err == nil && !c.ended() {
		c.cond.Wait()
	}
	way := c.way
	c.mu.Unlock()
	switch {
	case c.ended():
		return net.ErrClosed
	case way != nil:
		return way.WaitEnd()
	}
	return nil
}

// Broken reports that the far side did not mean the end.
func (c *Conn) Broken() bool {
	way := c.through()
	return way != nil && way.Broken()
}

// Close ends the connection.
func (c *Conn) Close() error {
	c.cancel()
	c.mu.Lock()
	way := c.way
	if c.alarm != nil {
		c.alarm.Stop()
	}
	c.cond.Broadcast()
	c.mu.Unlock()
	if way != nil {
		return way.Close()
	}
	return nil
}

func (c *Conn) late() bool { return !c.deadline.IsZero() && !time.Now().Before(c.deadline) }

// SetReadDeadline ends a Read or Next at a time.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	if c.alarm != nil {
		c.alarm.Stop()
		c.alarm = nil
	}
	if c.way != nil {
		return c.way.SetReadDeadline(t)
	}
	if !t.IsZero() {
		c.alarm = time.AfterFunc(time.Until(t), func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.cond.Broadcast()
		})
	}
	c.cond.Broadcast()
	return nil
}

// SetDeadline is SetReadDeadline.
func (c *Conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetWriteDeadline does nothing.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

type address string

func (address) Network() string  { return "socks" }
func (a address) String() string { return string(a) }

// LocalAddr has no address of its own.
func (c *Conn) LocalAddr() net.Addr { return address("localport") }

// RemoteAddr has none either.
func (c *Conn) RemoteAddr() net.Addr { return address("socks") }
