package relay

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// client is one accepted connection. Its own goroutine reads from it until it is gone; a second one per attempt reads
// what comes back.
type client struct {
	relay    *Relay
	conn     *net.TCPConn
	raw      syscall.RawConn
	accepted time.Time
	deadline time.Time // by which it has to have found its way

	// Guarded by the relay's lock.
	link    *link // that it is admitted to
	place   place
	dropped bool // it is to be reset
	waited  bool
	since   time.Time // it waits since then

	mu      sync.Mutex
	sent    record
	attempt *attempt
	over    bool
	gone    chan struct{} // closed when over
}

func newClient(r *Relay, conn *net.TCPConn, arrived time.Time) (*client, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &client{
		relay: r, conn: conn, raw: raw, gone: make(chan struct{}),
		accepted: arrived, deadline: arrived.Add(time.Duration(r.timeout.Load())),
	}, nil
}

// serve tries until an attempt was the client's last, or none can be had.
func (c *client) serve() {
	for c.await() && c.try() {
	}
	c.end(true)
	c.relay.leave(c)
}

// abort is what serve would have done yet, had it not panicked.
func (c *client) abort() {
	c.end(true)
	c.relay.cancelDial(c)
	c.mu.Lock()
	a := c.attempt
	c.mu.Unlock()
	if a != nil {
		<-a.done
		c.relay.conclude(a)
	}
	c.relay.leave(c)
}

// currentTunnel is the tunnel that the client was admitted to last, until the attempt through it has ended.
func (c *client) currentTunnel() forwarder.Tunnel {
	c.relay.mu.Lock()
	defer c.relay.mu.Unlock()
	if c.link == nil {
		return nil
	}
	return c.link.tunnel
}

// await returns when the client is admitted to a tunnel; false when it is to be reset: its time is up, it was dropped,
// or it is gone already.
func (c *client) await() bool {
	if c.relay.queueUp(c) {
		return c.relay.admitted(c)
	}
	for {
		if err := watch(c.raw); !errors.Is(err, os.ErrDeadlineExceeded) {
			c.relay.withdraw(c)
			return false
		}
		if c.relay.decided(c) {
			return c.relay.admitted(c)
		}
	}
}

// left is true once the client is over.
func (c *client) left() bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

// replayable is true while everything that the client has sent can be sent again.
func (c *client) replayable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.sent.lost
}

// wake makes the client's goroutine look around. While the client is queued only the relay calls it, under its lock.
func (c *client) wake() { _ = c.conn.SetReadDeadline(past) }

// unwake is what the client's goroutine does before it looks around.
func (c *client) unwake() { _ = c.conn.SetReadDeadline(time.Time{}) }

// end closes the client and its connection through the tunnel, if any, once and for all.
func (c *client) end(broken bool) {
	c.mu.Lock()
	if c.over {
		c.mu.Unlock()
		return
	}
	c.over = true
	var up way
	if c.attempt != nil {
		up = c.attempt.up
	}
	c.mu.Unlock()
	close(c.gone)
	shut(c.conn, broken)
	if up != nil {
		shut(up, broken)
	}
}
