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
	"github.com/localport-sh/localport/forwarder/wait"
)

// conn is a client's connection to a pod.
type conn struct {
	*streamPair
	tunnel *tunnel
	dest   destination

	chunk        *spdy.Chunk // returned by the last Next
	unread       []byte      // the rest of chunk, for Read
	endOnce      sync.Once
	isBroken     atomic.Bool
	hasWritten   atomic.Bool // the client has sent something
	closeOnce    sync.Once
	isHalfClosed bool          // it is counted in upstream.halfClosedClients; guarded by the pool's mu
	closedCh     chan struct{} // closed by Close
}

var _ forwarder.Stream = (*conn)(nil)

func newConn(streams *streamPair, t *tunnel, dest destination) *conn {
	return &conn{streamPair: streams, tunnel: t, dest: dest, closedCh: make(chan struct{})}
}

// Next waits for bytes, which are valid until the next call.
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

// handleEnd finds out why the data ended, reports a refusal or a lost connection, and returns io.EOF.
func (c *conn) handleEnd(err error) error {
	if wait.IsClosed(c.closedCh) {
		return net.ErrClosed
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	c.endOnce.Do(func() {
		hasReceived := c.dataStream.ReceivedBytes() > 0
		if r, isRefused := parseRefusal(c.readEndReason()); isRefused {
			c.reportRefusal(r, hasReceived)
			return
		}
		if !errors.Is(err, io.EOF) {
			c.drainUpstream()
			c.isBroken.Store(true)
			if !hasReceived { // the relay retries it if the client has sent nothing either
				c.tunnel.sendRefusal(forwarder.Refusal{Conn: c, Reason: fmt.Sprintf("lost the connection to the pod's node: %v", err)})
			}
		} else if !hasReceived && !c.hasWritten.Load() && !c.tunnel.tasks.IsDone() {
			c.tunnel.goTask(c.reportIfPodFailed)
		}
	})
	return io.EOF
}

// reportIfPodFailed reports a connection that ended before either side sent a byte if its pod fails soon after. A server that is
// killed closes its connections like one that has nothing to send, and the cluster learns of it up to a second later.
func (c *conn) reportIfPodFailed(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, endReasonTimeout*9/10)
	defer cancel()
	if c.tunnel.finder.waitForPodFailure(ctx, c.dest, c.closedCh) {
		c.reportRefusal(forwarder.Refusal{Reason: fmt.Sprintf("pod %s closed the connection and failed", c.dest.pod)}, false)
	}
}

// reportRefusal passes the node's report to the relay, which may retry the connection.
func (c *conn) reportRefusal(r forwarder.Refusal, hasReceived bool) {
	r.Conn = c
	if isNothingListening(r.Reason) && r.IsConnectFailure {
		r.Reason = fmt.Sprintf("nothing listens on port %d of pod %s: connection refused", c.dest.port, c.dest.pod)
		r.Hint = fmt.Sprintf("check remote_port, or see whether the program in the pod has started with %q", c.tunnel.ref.NamespacedCommand("logs "+c.dest.pod))
	}
	if r.IsConnectFailure = r.IsConnectFailure && !hasReceived; r.IsConnectFailure {
		c.tunnel.finder.recordRefusal(c.upstream.uid)
	} else {
		c.isBroken.Store(true)
	}
	c.tunnel.sendRefusal(r)
}

// IsBroken reports, after the end, whether the connection was lost and not closed by the pod.
func (c *conn) IsBroken() bool { return c.isBroken.Load() }

// WaitEnd returns when the node has closed both directions, or the upstream has ended. A report that comes only then still breaks the
// connection.
func (c *conn) WaitEnd() error {
	message := c.readErrorMessage()
	if wait.IsClosed(c.closedCh) {
		return net.ErrClosed
	}
	if r, isRefused := parseRefusal(message); isRefused {
		c.reportRefusal(r, true)
	}
	return nil
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

// CloseWrite half-closes the connection. Its upstream may serve another client from then on: most clients that half-close have
// closed, which TCP does not tell apart.
func (c *conn) CloseWrite() error {
	c.tunnel.pool.markHalfClosed(c)
	return c.dataStream.CloseWrite()
}

// Close ends the connection and releases its upstream. The error is always nil.
func (c *conn) Close() error {
	c.closeOnce.Do(func() {
		close(c.closedCh)
		c.abort()
		c.tunnel.releaseConn(c)
	})
	return nil
}

// Ping waits for an answer of the pod's node to a message that is sent after the request to connect. A refusal of the pod arrives just after it.
func (c *conn) Ping(ctx context.Context) error {
	select {
	case <-c.upstream.Ping():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// drainUpstream keeps further clients from the upstream.
func (c *conn) drainUpstream() {
	c.tunnel.pool.mu.Lock()
	defer c.tunnel.pool.mu.Unlock()
	c.upstream.isDraining = true
}

// SetDeadline is SetReadDeadline: a write blocks at most as long as the upstream lives.
func (c *conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline sets the deadline of Read and Next.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.dataStream.SetReadDeadline(t)
	return nil
}

// SetWriteDeadline does nothing.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// address is the address of an endpoint without a network address.
type address string

func (address) Network() string  { return "kubernetes" }
func (a address) String() string { return string(a) }

// LocalAddr is always "localport".
func (c *conn) LocalAddr() net.Addr { return address("localport") }

// RemoteAddr is the name of the pod.
func (c *conn) RemoteAddr() net.Addr { return address(c.upstream.pod) }
