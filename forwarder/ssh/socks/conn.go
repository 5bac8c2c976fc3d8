// Package socks is the server side of SOCKS 4, 4a and 5 (RFC 1928): a Conn reads its client's request, opens an upstream connection
// and then passes bytes. Host names are not resolved here.
package socks

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/wait"
)

// OpenFunc opens the connection that a client requests. A *Refusal as its error chooses the reply to the client.
type OpenFunc func(ctx context.Context, host string, port int) (forwarder.Stream, error)

// Refusal is an error of OpenFunc with the reply that the client gets.
type Refusal struct {
	Reply Reply
	Err   error
}

func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap returns Err.
func (r *Refusal) Unwrap() error { return r.Err }

// maxRequestSize is larger than any valid request, in bytes.
const maxRequestSize = 1024

var errInvalidRequest = errors.New("invalid or unsupported SOCKS request")

// Conn is the upstream side of a client's connection in a relay. Until the client's request is granted, writes are parsed as the
// request, and reads return the replies to it; then both go to the upstream connection.
type Conn struct {
	openUpstream func(host string, port int) (forwarder.Stream, error)
	closedCh     <-chan struct{} // closed by Close
	cancel       context.CancelFunc

	mu            sync.Mutex
	cond          sync.Cond
	unparsed      []byte // written by the client, not a whole message yet
	hasGreeting   bool   // a first message was parsed: in SOCKS 5, the method is agreed
	unreadReplies []byte
	upstream      forwarder.Stream // nil: not open
	err           error            // why there is no upstream
	isWriteClosed bool             // CloseWrite was called
	readDeadline  time.Time
	waitDeadline  wait.Deadline // readDeadline, while there is no upstream that has it
}

var _ forwarder.Stream = (*Conn)(nil)

// New returns a Conn that opens its upstream with open. The caller closes it; it also ends with ctx.
func New(ctx context.Context, open OpenFunc) *Conn {
	ctx, cancel := context.WithCancel(ctx)
	c := &Conn{closedCh: ctx.Done(), cancel: cancel}
	c.openUpstream = func(host string, port int) (forwarder.Stream, error) { return open(ctx, host, port) }
	c.cond.L = &c.mu
	return c
}

// isClosed reports whether Close was called or the context has ended.
func (c *Conn) isClosed() bool { return wait.IsClosed(c.closedCh) }

// Write takes bytes of the client. The one that completes the request returns when the upstream is open or refused.
func (c *Conn) Write(p []byte) (int, error) {
	if upstream := c.currentUpstream(); upstream != nil {
		return upstream.Write(p)
	}
	if c.isClosed() {
		return 0, net.ErrClosed
	}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return 0, c.err
	}
	c.unparsed = append(c.unparsed, p...)
	c.mu.Unlock()
	if err := c.negotiate(); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *Conn) currentUpstream() forwarder.Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.upstream
}

// negotiate handles every whole message that was written. Only Write calls it.
func (c *Conn) negotiate() error {
	for {
		c.mu.Lock()
		unparsed, hasGreeting := c.unparsed, c.hasGreeting
		c.mu.Unlock()
		r, n, reply, err := parseMessage(unparsed, hasGreeting)
		switch {
		case err != nil:
			return c.failWithReply(reply, err)
		case n == 0 && len(unparsed) > maxRequestSize:
			return c.failWithReply(nil, errInvalidRequest)
		case n == 0:
			return nil
		}
		c.mu.Lock()
		c.unparsed, c.hasGreeting = unparsed[n:], true
		c.unreadReplies = append(c.unreadReplies, reply...)
		c.cond.Broadcast()
		c.mu.Unlock()
		if r != nil {
			return c.connectUpstream(r)
		}
	}
}

// connectUpstream opens the upstream and writes to it what followed the request.
func (c *Conn) connectUpstream(r *request) error {
	upstream, err := c.openUpstream(r.host, r.port)
	if err != nil {
		reply := ReplyGeneralFailure
		if refusal, ok := errors.AsType[*Refusal](err); ok {
			reply = refusal.Reply
		}
		return c.failWithReply(r.encodeReply(reply), err)
	}
	c.mu.Lock()
	unsent, isWriteClosed := c.unparsed, c.isWriteClosed
	c.upstream, c.unparsed = upstream, nil
	c.unreadReplies = append(c.unreadReplies, r.encodeReply(replySucceeded)...)
	_ = upstream.SetReadDeadline(c.readDeadline)
	c.cond.Broadcast()
	c.mu.Unlock()
	if c.isClosed() {
		return upstream.Close()
	}
	if len(unsent) > 0 {
		if _, err := upstream.Write(unsent); err != nil {
			return err
		}
	}
	if isWriteClosed {
		return upstream.CloseWrite()
	}
	return nil
}

// failWithReply ends the connection after a reply.
func (c *Conn) failWithReply(reply []byte, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unreadReplies = append(c.unreadReplies, reply...)
	c.err = err
	c.cond.Broadcast()
	return nil // not err: the client must read the reply first
}

// Next returns the replies, and then the bytes of the upstream.
func (c *Conn) Next() ([]byte, error) {
	c.mu.Lock()
	for len(c.unreadReplies) == 0 && c.upstream == nil && c.err == nil && !c.isClosed() && !c.waitDeadline.HasPassed() {
		c.cond.Wait()
	}
	replies, upstream, isLate := c.unreadReplies, c.upstream, c.waitDeadline.HasPassed()
	c.unreadReplies = nil
	err := c.err
	c.mu.Unlock()
	switch {
	case c.isClosed():
		return nil, net.ErrClosed
	case len(replies) > 0:
		return replies, nil
	case upstream != nil:
		return upstream.Next()
	case err != nil:
		return nil, io.EOF
	case isLate:
		return nil, os.ErrDeadlineExceeded
	}
	return nil, io.EOF
}

func (c *Conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	if len(c.unreadReplies) == 0 && c.upstream != nil {
		upstream := c.upstream
		c.mu.Unlock()
		return upstream.Read(p)
	}
	c.mu.Unlock()
	b, err := c.Next()
	n := copy(p, b)
	if n < len(b) {
		c.mu.Lock()
		c.unreadReplies = append(b[n:len(b):len(b)], c.unreadReplies...)
		c.mu.Unlock()
	}
	return n, err
}

// CloseWrite passes the client's end of file to the upstream, at the latest when that is open.
func (c *Conn) CloseWrite() error {
	c.mu.Lock()
	c.isWriteClosed = true
	upstream := c.upstream
	c.mu.Unlock()
	if upstream != nil {
		return upstream.CloseWrite()
	}
	return nil
}

// WaitEnd returns nil when the upstream has ended or was refused, and net.ErrClosed after Close.
func (c *Conn) WaitEnd() error {
	c.mu.Lock()
	for c.upstream == nil && c.err == nil && !c.isClosed() {
		c.cond.Wait()
	}
	upstream := c.upstream
	c.mu.Unlock()
	switch {
	case c.isClosed():
		return net.ErrClosed
	case upstream != nil:
		return upstream.WaitEnd()
	}
	return nil
}

// IsBroken reports whether the upstream connection was lost.
func (c *Conn) IsBroken() bool {
	upstream := c.currentUpstream()
	return upstream != nil && upstream.IsBroken()
}

// Close ends the connection and its upstream.
func (c *Conn) Close() error {
	c.cancel()
	c.mu.Lock()
	upstream := c.upstream
	c.waitDeadline.Stop()
	c.cond.Broadcast()
	c.mu.Unlock()
	if upstream != nil {
		return upstream.Close()
	}
	return nil
}

// SetReadDeadline makes Read and Next return os.ErrDeadlineExceeded at a time; zero: never.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readDeadline = t
	if c.upstream != nil {
		return c.upstream.SetReadDeadline(t)
	}
	c.waitDeadline.Set(t, &c.cond)
	return nil
}

// SetDeadline is SetReadDeadline: writes have no deadline.
func (c *Conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetWriteDeadline does nothing and returns nil.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

type connAddr string

func (connAddr) Network() string  { return "socks" }
func (a connAddr) String() string { return string(a) }

// LocalAddr returns a placeholder.
func (c *Conn) LocalAddr() net.Addr { return connAddr("localport") }

// RemoteAddr returns a placeholder.
func (c *Conn) RemoteAddr() net.Addr { return connAddr("socks") }
