package ssh

import (
	"context"
	"errors"
	"maps"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/ssh/mux"
	"github.com/localport-sh/localport/forwarder/wait"
)

// tunnel is one service's use of a master.
type tunnel struct {
	master      *master
	release     func() // releases the master
	closeOnce   sync.Once
	doneCh      chan struct{}
	closeCh     chan struct{} // closed by Close
	leaveCh     chan struct{} // closed by leave
	leaveOnce   sync.Once
	leaveReason string          // valid after leaveCh
	changedCh   chan struct{}   // see FailureChanged
	setAsideCh  <-chan struct{} // the master's; nil: the tunnel stays on a master that is set aside

	mu       sync.Mutex
	conns    map[*clientConn]struct{}
	isClosed bool
}

func newTunnel(m *master, release func()) *tunnel {
	t := makeTunnel(m, release)
	t.setAsideCh = m.setAsideCh
	go t.watchMaster()
	return t
}

// newStayingTunnel makes a tunnel that stays on a master that is set aside, because its connections end with its use of the master.
func newStayingTunnel(m *master, release func()) *tunnel {
	t := makeTunnel(m, release)
	go t.watchMaster()
	return t
}

func makeTunnel(m *master, release func()) *tunnel {
	return &tunnel{
		master: m, release: release, doneCh: make(chan struct{}), closeCh: make(chan struct{}), leaveCh: make(chan struct{}),
		changedCh: make(chan struct{}, 1), conns: make(map[*clientConn]struct{}),
	}
}

// watchMaster closes doneCh when the tunnel ends, and signals changes of the failure until then.
func (t *tunnel) watchMaster() {
	defer close(t.doneCh)
	for {
		changedCh := t.master.suspicionChanged.Changed()
		if t.CurrentFailure() != nil {
			wait.Notify(t.changedCh)
		}
		select {
		case <-changedCh:
			wait.Notify(t.changedCh)
			continue
		case <-t.master.doneCh:
		case <-t.setAsideCh:
		case <-t.leaveCh:
		case <-t.closeCh:
		}
		return
	}
}

// Refusals returns nil: Dial itself returns refusals.
func (t *tunnel) Refusals() <-chan forwarder.Refusal { return nil }

// Acknowledges returns true: Dial returns when the server has connected.
func (t *tunnel) Acknowledges() bool { return true }

// Done is closed when the master has ended or does not answer, the service needs another one, or after Close.
func (t *tunnel) Done() <-chan struct{} { return t.doneCh }

// Err returns why the tunnel has ended; nil after Close.
func (t *tunnel) Err() error {
	select {
	case <-t.closeCh:
		return nil
	case <-t.leaveCh:
		return &forwarder.Failure{Reason: t.leaveReason}
	default:
	}
	return t.master.endReason()
}

// Close ends the tunnel's use of the master, and the master if no other tunnel uses it. Connections break, unless the tunnel had ended while
// they went on: then the use ends with the last of them.
func (t *tunnel) Close() error {
	t.closeOnce.Do(func() {
		keepsConns := t.master.isSetAside() || wait.IsClosed(t.leaveCh)
		close(t.closeCh)
		t.master.removeRestrictions(t)
		t.mu.Lock()
		t.isClosed = true
		conns := maps.Clone(t.conns)
		t.mu.Unlock()
		if keepsConns && len(conns) > 0 {
			t.master.destination.tasks.Go(func(ctx context.Context) {
				for c := range conns {
					select {
					case <-c.closedCh:
					case <-ctx.Done():
						c.Break()
					}
				}
				t.release()
			})
			return
		}
		for c := range conns {
			c.Break()
		}
		t.release()
	})
	<-t.doneCh
	return nil
}

// leave ends the tunnel, because another master can serve it better. Its connections go on.
func (t *tunnel) leave(reason string) {
	t.leaveOnce.Do(func() {
		t.leaveReason = reason
		close(t.leaveCh)
	})
}

// CurrentFailure says that the server does not answer, while a master that the user had to log in waits for it.
func (t *tunnel) CurrentFailure() *forwarder.Failure { return t.master.currentSuspicion() }

// FailureChanged receives a signal when CurrentFailure may have changed.
func (t *tunnel) FailureChanged() <-chan struct{} { return t.changedCh }

// CheckConnection starts a liveness check of the master.
func (t *tunnel) CheckConnection() { t.master.startLivenessCheck() }

// handleRefusal reacts to a refused channel. A server that limits the channels of a connection may accept one connection for each
// service: then this tunnel ends, and the next one opens a master of its own.
func (t *tunnel) handleRefusal(refusal *mux.OpenChannelError) {
	if refusal.Reason == mux.ResourceShortage && t.master.destination.stopSharing(t.master) {
		t.leave("the server allows too few channels on one connection: the service opens its own")
		return
	}
	t.master.recycleAfterRefusals(refusal)
}

// slowOpenLimit is how long opening a channel may take before the master's liveness is checked. The slow part may be the connect at
// the far end.
const slowOpenLimit = 2 * time.Second

// openChannel opens a channel for a client. The error may be a *mux.OpenChannelError.
func (t *tunnel) openChannel(ctx context.Context, host string, port int) (*clientConn, error) {
	slowTimer := time.AfterFunc(slowOpenLimit, t.master.startLivenessCheck)
	defer slowTimer.Stop()
	stream, err := t.master.conn.Open(ctx, host, port)
	if refused, ok := errors.AsType[*mux.OpenChannelError](err); ok {
		t.handleRefusal(refused)
	}
	if err != nil {
		return nil, err
	}
	c := &clientConn{Stream: stream, tunnel: t, closedCh: make(chan struct{})}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.isClosed {
		_ = stream.Close()
		return nil, net.ErrClosed
	}
	t.conns[c] = struct{}{}
	return c, nil
}

// newRefusal returns the refusal of a connection that the server was asked for. If the server forbids it, that is looked at again.
func (t *tunnel) newRefusal(server, service, host string, port int, refused *mux.OpenChannelError) *forwarder.Refusal {
	if isForbidden(refused) {
		t.master.addRestriction(net.JoinHostPort(host, strconv.Itoa(port)), restriction{
			tunnel: t, isLifted: func(ctx context.Context, other *master) bool { return other.allows(ctx, host, port) },
		})
	}
	return newRefusal(server, host, port, refused, t.master.keyOptions(), t.master.describeRecheck(service))
}

// clientConn is a client's channel, which its tunnel closes at the latest.
type clientConn struct {
	*mux.Stream
	tunnel    *tunnel
	closeOnce sync.Once
	closedCh  chan struct{} // closed by Close
}

var _ forwarder.Stream = (*clientConn)(nil)

// Close ends the connection. The error is always nil.
func (c *clientConn) Close() error {
	c.tunnel.mu.Lock()
	delete(c.tunnel.conns, c)
	c.tunnel.mu.Unlock()
	err := c.Stream.Close()
	c.closeOnce.Do(func() { close(c.closedCh) })
	return err
}

// directTunnel connects to one address, as the server resolves it.
type directTunnel struct {
	*tunnel
	server  string // the ssh host's name
	service string
	host    string
	port    int
}

func newDirectTunnel(s *tunnelSpec, m *master, release func()) *directTunnel {
	port, _ := strconv.Atoi(s.remotePort) // the config has validated it
	return &directTunnel{tunnel: newTunnel(m, release), server: s.serverName(), service: s.name, host: s.connection.remoteHost, port: port}
}

// Dial opens a channel and returns when the server has connected.
func (t *directTunnel) Dial(ctx context.Context) (net.Conn, error) {
	c, err := t.openChannel(ctx, t.host, t.port)
	if refused, ok := errors.AsType[*mux.OpenChannelError](err); ok {
		r := t.newRefusal(t.server, t.service, t.host, t.port, refused)
		if refused.Reason == mux.ConnectionFailed && !strings.Contains(refused.Message, temporaryResolverMessage) {
			r.IsFinal = t.master.destination.recordLookup(t.host, isResolverMessage(t.host, refused.Message))
		}
		return nil, r
	}
	if err != nil {
		return nil, err
	}
	t.master.destination.recordLookup(t.host, false)
	return c, nil
}
