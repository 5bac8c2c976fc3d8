package relay

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/wait"
)

// client is one accepted connection. One goroutine reads from it until it is closed; each attempt has a second one that
// reads from the upstream.
type client struct {
	relay           *Relay
	conn            *net.TCPConn
	rawConn         syscall.RawConn
	arrivedAt       time.Time
	connectDeadline time.Time   // it is reset if it is not connected by then
	isWriteClosed   atomic.Bool // set before the client's connection is closed for sending

	// Guarded by the relay's mu. The small fields are adjacent: otherwise padding moves the struct to the allocator's next
	// size class, 16 bytes more for each idle connection.
	state        clientState
	isDropped    bool // it will be reset
	hasWaited    bool
	isServed     bool         // it counts as served
	tunnelState  *tunnelState // of the tunnel that it is admitted to; nil: none
	waitingSince time.Time

	mu       sync.Mutex // guards the fields below, and those of the attempt that say so
	replay   replayBuffer
	attempt  *attempt
	isClosed bool
	closedCh chan struct{} // closed when isClosed is set
}

func newClient(r *Relay, conn *net.TCPConn, arrivedAt time.Time) (*client, error) {
	rawConn, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &client{
		relay: r, conn: conn, rawConn: rawConn, closedCh: make(chan struct{}),
		arrivedAt: arrivedAt, connectDeadline: arrivedAt.Add(time.Duration(r.connectTimeout.Load())),
	}, nil
}

// serve makes attempts until one is not to be repeated, or the client is not admitted to a tunnel.
func (c *client) serve() {
	for c.awaitTunnel() && c.connectOnce() {
	}
	c.close(true)
	c.relay.removeClient(c)
}

// cleanUpAfterPanic does what serve had left to do when it panicked.
func (c *client) cleanUpAfterPanic() {
	c.close(true)
	c.relay.cancelDial(c)
	c.mu.Lock()
	a := c.attempt
	c.mu.Unlock()
	if a != nil {
		<-a.doneCh
		c.relay.finishAttempt(a)
	}
	c.relay.removeClient(c)
}

// currentTunnel returns the tunnel that the client is admitted to, until the attempt through it has ended.
func (c *client) currentTunnel() forwarder.Tunnel {
	c.relay.mu.Lock()
	defer c.relay.mu.Unlock()
	if c.tunnelState == nil {
		return nil
	}
	return c.tunnelState.tunnel
}

// awaitTunnel waits until the client is admitted to a tunnel. It returns false if the client is to be reset instead: after
// its deadline, when it was dropped, or when it has disconnected.
func (c *client) awaitTunnel() bool {
	if c.relay.enqueueClient(c) {
		return c.relay.isAdmitted(c)
	}
	for {
		if err := awaitSocketError(c.rawConn); !errors.Is(err, os.ErrDeadlineExceeded) {
			c.relay.withdrawClient(c)
			return false
		}
		if c.relay.finishWaiting(c) {
			return c.relay.isAdmitted(c)
		}
	}
}

// hasClosed reports isClosed without the lock.
func (c *client) hasClosed() bool { return wait.IsClosed(c.closedCh) }

// canReplay reports whether everything that the client has sent can be sent again.
func (c *client) canReplay() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.replay.hasOverflowed
}

// interruptRead makes a blocked read of the client's goroutine return, so that it checks its state. While the client is
// queued only the relay calls it, under the relay's mu.
func (c *client) interruptRead() { _ = c.conn.SetReadDeadline(pastDeadline) }

// clearInterrupt is called by the client's goroutine before it checks its state: a later interrupt is not lost.
func (c *client) clearInterrupt() { _ = c.conn.SetReadDeadline(time.Time{}) }

// close closes the client and its upstream connection, if any, by a reset if wanted. Only the first call counts.
func (c *client) close(byReset bool) {
	c.mu.Lock()
	if c.isClosed {
		c.mu.Unlock()
		return
	}
	c.isClosed = true
	var upstream halfCloseConn
	if c.attempt != nil {
		upstream = c.attempt.upstream
	}
	c.mu.Unlock()
	close(c.closedCh)
	closeConn(c.conn, byReset)
	if upstream != nil {
		closeConn(upstream, byReset)
	}
}
