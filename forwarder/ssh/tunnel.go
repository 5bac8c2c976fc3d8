package ssh

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/ssh/mux"
)

// tunnel is one service's use of a master.
type tunnel struct {
	master *master
	leave  func() // ends the use
	once   sync.Once
	done   chan struct{}
	gone   chan struct{} // closed by Close
	apart  chan struct{} // closed when it is not to share its master any more
	part   sync.Once

	mu    sync.Mutex
	conns map[*conn]struct{}
}

func newTunnel(m *master, leave func()) *tunnel {
	t := &tunnel{master: m, leave: leave, done: make(chan struct{}), gone: make(chan struct{}), apart: make(chan struct{}), conns: make(map[*conn]struct{})}
	go func() {
		defer close(t.done)
		select {
		case <-m.done:
		case <-t.apart:
		case <-t.gone:
		}
	}()
	return t
}

// Refusals is nil: the far side's word comes with each Dial.
func (t *tunnel) Refusals() <-chan forwarder.Refusal { return nil }

// Acknowledges is true: a connection counts as made when the far side has connected.
func (t *tunnel) Acknowledges() bool { return true }

// Done is closed when the master has ended, or after Close.
func (t *tunnel) Done() <-chan struct{} { return t.done }

// Err is why the master has ended.
func (t *tunnel) Err() error {
	select {
	case <-t.gone:
		return nil
	case <-t.apart:
		return &forwarder.Failure{Reason: "the server has no room for several services in one connection"}
	default:
	}
	return t.master.failure()
}

// Close ends the tunnel's own connections, and the master if nobody else uses it.
func (t *tunnel) Close() error {
	t.once.Do(func() {
		close(t.gone)
		t.mu.Lock()
		conns := t.conns
		t.conns = nil
		t.mu.Unlock()
		for c := range conns {
			c.Break()
		}
		t.leave()
	})
	<-t.done
	return nil
}

// Frozen reports whether ssh was stopped.
func (t *tunnel) Frozen() bool { return t.master.child.Frozen() }

// Doubt has the server asked for a sign of life.
func (t *tunnel) Doubt() { t.master.doubt() }

// refused takes the far side's refusal of a channel into account. A server that has no channel left for several services
// may have one for each: this one goes on with an ssh of its own.
func (t *tunnel) refused(r *mux.Refused) {
	if r.Code == mux.Shortage && t.master.at.part(t.master) {
		t.part.Do(func() { close(t.apart) })
		return
	}
	t.master.wear(r)
}

// slow is how long a connection may take before the server is asked for a sign of life. It may be the far end that is slow.
const slow = 2 * time.Second

// channel opens a channel for a client. An error may be a *mux.Refused.
func (t *tunnel) channel(ctx context.Context, host string, port int) (*conn, error) {
	worry := time.AfterFunc(slow, t.master.doubt)
	defer worry.Stop()
	stream, err := t.master.conn.Open(ctx, host, port)
	if refused, ok := errors.AsType[*mux.Refused](err); ok {
		t.refused(refused)
	}
	if err != nil {
		return nil, err
	}
	c := &conn{Stream: stream, tunnel: t}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conns == nil {
		_ = stream.Close()
		return nil, net.ErrClosed
	}
	t.conns[c] = struct{}{}
	return c, nil
}

// conn is a client's connection.
type conn struct {
	*mux.Stream
	tunnel *tunnel
}

var _ forwarder.Stream = (*conn)(nil)

// Close ends the connection. The error is always nil.
func (c *conn) Close() error {
	c.tunnel.mu.Lock()
	delete(c.tunnel.conns, c)
	c.tunnel.mu.Unlock()
	return c.Stream.Close()
}

// direct leads to one address.
type direct struct {
	*tunnel
	host string
	port int
}

func newDirect(t *spec, m *master, leave func()) *direct {
	port, _ := strconv.Atoi(t.port) // the config has seen to it that it is a number
	return &direct{tunnel: newTunnel(m, leave), host: t.to.remoteHost, port: port}
}

// Dial opens a channel, and returns when the far side has connected.
func (d *direct) Dial(ctx context.Context) (net.Conn, error) {
	c, err := d.channel(ctx, d.host, d.port)
	if refused, ok := errors.AsType[*mux.Refused](err); ok {
		return nil, &forwarder.Refusal{Reason: refused.Error(), Connect: true}
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}
