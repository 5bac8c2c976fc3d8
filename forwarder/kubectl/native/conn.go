package native

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/spdy"
)

// conn is a client's connection to a pod.
type conn struct {
	*pair
	tunnel *tunnel
	at     choice

	piece  *spdy.Piece // lent to who called Next
	unread []byte      // of the piece, for Read
	ended  sync.Once
	broken atomic.Bool
	spoken atomic.Bool // the client has said something
	closed sync.Once
	leaves bool          // it counts as leaving; guarded by the pool's lock
	gone   chan struct{} // closed by Close
}

var _ forwarder.Stream = (*conn)(nil)

func newConn(p *pair, t *tunnel, at choice) *conn {
	return &conn{pair: p, tunnel: t, at: at, gone: make(chan struct{})}
}

// Next waits for bytes and lends them until the next call.
func (c *conn) Next() ([]byte, error) {
	c.free()
	piece, err := c.data.Next()
	if err != nil {
		return nil, c.end(err)
	}
	c.piece = piece
	return piece.Bytes(), nil
}

func (c *conn) free() {
	if c.piece != nil {
		c.piece.Free()
		c.piece = nil
	}
}

func (c *conn) Read(p []byte) (int, error) {
	if len(c.unread) == 0 {
		var err error
		if c.unread, err = c.Next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.unread)
	c.unread = c.unread[n:]
	return n, nil
}

// end finds out what the end of the bytes means, and tells it: to clients it is an end of file.
func (c *conn) end(err error) error {
	select {
	case <-c.gone:
		return net.ErrClosed
	default:
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	c.ended.Do(func() {
		answered := c.data.Received() > 0
		if r, refused := refusal(c.why(answered)); refused {
			c.report(r, answered)
			return
		}
		if !errors.Is(err, io.EOF) {
			c.soil()
			c.broken.Store(true)
			if !answered { // who has sent nothing either loses nothing by another attempt
				c.tunnel.report(forwarder.Refusal{Conn: c, Reason: fmt.Sprintf("the connection to the pod's node broke: %v", err)})
			}
		} else if !answered && !c.spoken.Load() && !c.tunnel.tasks.IsDone() {
			c.tunnel.goes(c.doubt)
		}
	})
	return io.EOF
}

// doubt finds out whether a server that has ended a connection before either side said a word was killed: it ends those that it
// had taken like one that has nothing to say, and nodes tell of it a second later.
func (c *conn) doubt(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settle*9/10)
	defer cancel()
	if c.tunnel.finder.fell(ctx, c.at, c.gone) {
		c.report(forwarder.Refusal{Reason: fmt.Sprintf("pod %s ended the connection, and went itself", c.at.pod)}, false)
	}
}

// report says what the node said of the connection: to the relay, which may have it tried anew.
func (c *conn) report(r forwarder.Refusal, answered bool) {
	r.Conn = c
	if r.Connect = r.Connect && !answered; r.Connect {
		c.tunnel.finder.refuse(c.up.uid)
	} else {
		c.broken.Store(true)
	}
	c.tunnel.report(r)
}

// Broken reports that the end was none that the pod meant.
func (c *conn) Broken() bool { return c.broken.Load() }

// WaitEnd returns when the node has let go of both directions, or the upstream has ended.
func (c *conn) WaitEnd() error {
	_, _ = c.errs.WriteTo(io.Discard)
	select {
	case <-c.gone:
		return net.ErrClosed
	default:
		return nil
	}
}

func (c *conn) Write(p []byte) (n int, err error) {
	c.spoken.Store(true)
	for n < len(p) {
		m := min(len(p)-n, spdy.MaxData)
		if err := c.data.Write(p[n : n+m]); err != nil {
			return n, err
		}
		n += m
	}
	return n, nil
}

// CloseWrite says that the client sends nothing more. Its upstream may be another's then: most that end so have ended
// altogether, which TCP does not tell.
func (c *conn) CloseWrite() error {
	c.tunnel.pool.leaves(c)
	return c.data.CloseWrite()
}

// Close ends the connection and gives its upstream back. The error is always nil.
func (c *conn) Close() error {
	c.closed.Do(func() {
		close(c.gone)
		c.abort()
		c.tunnel.give(c)
	})
	return nil
}

// soil keeps the upstream from being used again.
func (c *conn) soil() {
	c.tunnel.pool.mu.Lock()
	defer c.tunnel.pool.mu.Unlock()
	c.up.soiled = true
}

// SetDeadline is SetReadDeadline: what is written waits for no longer than the upstream lives.
func (c *conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline ends a Read or Next at a time.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.data.SetReadDeadline(t)
	return nil
}

// SetWriteDeadline does nothing.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// address names an end of a connection that has none.
type address string

func (address) Network() string  { return "kubernetes" }
func (a address) String() string { return string(a) }

// LocalAddr has no address of its own.
func (c *conn) LocalAddr() net.Addr { return address("localport") }

// RemoteAddr is the pod.
func (c *conn) RemoteAddr() net.Addr { return address(c.up.pod) }
