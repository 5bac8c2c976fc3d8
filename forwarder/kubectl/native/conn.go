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
	*streamPair
	tunnel *tunnel
	dest   destination

	chunk      *spdy.Chunk // lent to who called Next
	unread     []byte      // of the piece, for Read
	endOnce    sync.Once
	isBroken   atomic.Bool
	hasWritten atomic.Bool // the client has said something
	closeOnce  sync.Once
	isLeaving  bool          // it counts as leaving; guarded by the pool's lock
	closedCh   chan struct{} // closed by Close
}

var _ forwarder.Stream = (*conn)(nil)

func newConn(streams *streamPair, t *tunnel, dest destination) *conn {
	return &conn{streamPair: streams, tunnel: t, dest: dest, closedCh: make(chan struct{})}
}

// Next waits for bytes and lends them until the next call.
func (c *conn) Next() ([]byte, error) {
	c.freeChunk()
	chunk, err := c.dataStream.Next()
	if err != nil {
		return nil, c.handleEnd(err)
	}
	c.chunk = chunk
	return chunk.Bytes(), nil
}

func (c *conn) freeChunk() {
	if c.chunk != nil {
		c.chunk.Free()
		c.chunk = nil
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

// handleEnd finds out what the end of the bytes means, and tells it: to clients it is an end of file.
func (c *conn) handleEnd(err error) error {
	select {
	case <-c.closedCh:
		return net.ErrClosed
	default:
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	c.endOnce.Do(func() {
		hasReceived := c.dataStream.ReceivedBytes() > 0
		if r, isRefused := parseRefusal(c.readEndReason(hasReceived)); isRefused {
			c.reportRefusal(r, hasReceived)
			return
		}
		if !errors.Is(err, io.EOF) {
			c.retireUpstream()
			c.isBroken.Store(true)
			if !hasReceived { // who has sent nothing either loses nothing by another attempt
				c.tunnel.sendRefusal(forwarder.Refusal{Conn: c, Reason: fmt.Sprintf("the connection to the pod's node broke: %v", err)})
			}
		} else if !hasReceived && !c.hasWritten.Load() && !c.tunnel.tasks.Ended() {
			c.tunnel.goTask(c.reportIfPodFailed)
		}
	})
	return io.EOF
}

// reportIfPodFailed finds out whether a server that has ended a connection before either side said a word was killed: it ends those that it
// had taken like one that has nothing to say, and nodes tell of it a second later.
func (c *conn) reportIfPodFailed(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, endReasonTimeout*9/10)
	defer cancel()
	if c.tunnel.finder.waitForPodFailure(ctx, c.dest, c.closedCh) {
		c.reportRefusal(forwarder.Refusal{Reason: fmt.Sprintf("pod %s ended the connection, and went itself", c.dest.pod)}, false)
	}
}

// reportRefusal says what the node said of the connection: to the relay, which may have it tried anew.
func (c *conn) reportRefusal(r forwarder.Refusal, hasReceived bool) {
	r.Conn = c
	if r.Connect = r.Connect && !hasReceived; r.Connect {
		c.tunnel.finder.recordRefusal(c.upstream.uid)
	} else {
		c.isBroken.Store(true)
	}
	c.tunnel.sendRefusal(r)
}

// Broken reports that the end was none that the pod meant.
func (c *conn) Broken() bool { return c.isBroken.Load() }

// WaitEnd returns when the node has let go of both directions, or the upstream has ended.
func (c *conn) WaitEnd() error {
	_, _ = c.errorStream.WriteTo(io.Discard)
	select {
	case <-c.closedCh:
		return net.ErrClosed
	default:
		return nil
	}
}

func (c *conn) Write(p []byte) (n int, err error) {
	c.hasWritten.Store(true)
	for n < len(p) {
		m := min(len(p)-n, spdy.MaxWriteSize)
		if err := c.dataStream.Write(p[n : n+m]); err != nil {
			return n, err
		}
		n += m
	}
	return n, nil
}

// CloseWrite says that the client sends nothing more. Its upstream may be another's then: most that end so have ended
// altogether, which TCP does not tell.
func (c *conn) CloseWrite() error {
	c.tunnel.pool.markLeaving(c)
	return c.dataStream.CloseWrite()
}

// Close ends the connection and gives its upstream back. The error is always nil.
func (c *conn) Close() error {
	c.closeOnce.Do(func() {
		close(c.closedCh)
		c.abort()
		c.tunnel.releaseConn(c)
	})
	return nil
}

// retireUpstream keeps the upstream from being used again.
func (c *conn) retireUpstream() {
	c.tunnel.pool.mu.Lock()
	defer c.tunnel.pool.mu.Unlock()
	c.upstream.isRetired = true
}

// SetDeadline is SetReadDeadline: what is written waits for no longer than the upstream lives.
func (c *conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline ends a Read or Next at a time.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.dataStream.SetReadDeadline(t)
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
func (c *conn) RemoteAddr() net.Addr { return address(c.upstream.pod) }
