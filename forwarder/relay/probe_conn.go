package relay

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// ErrNoTunnel is returned by Dial while no tunnel is attached.
var ErrNoTunnel = errors.New("no tunnel is up")

// Dial connects through the attached tunnel for a health check. It does not wait for a tunnel, and the connection is not
// counted in Stats. If the connection ends before a byte was read, Read waits up to a second for the tunnel to report a
// refusal, or to end, and returns that *forwarder.Refusal, or the tunnel's error, instead of the end. Close, and a
// deadline in the past, end that wait.
func (r *Relay) Dial(ctx context.Context) (net.Conn, error) {
	r.mu.Lock()
	ts := r.attached
	if ts == nil || r.isClosed {
		r.mu.Unlock()
		return nil, ErrNoTunnel
	}
	pending := ts.pendingConns.add()
	r.mu.Unlock()

	conn, err := ts.tunnel.Dial(ctx)
	now, isAcknowledged := time.Now(), ts.tunnel.Acknowledges()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		refusal, isRefusal := errors.AsType[*forwarder.Refusal](err)
		ts.pendingConns.recordDialError(pending, isRefusal, now)
		if isRefusal && !refusal.IsFinal {
			ts.recordRefusal(nil, now)
		}
		return nil, err
	}
	ts.pendingConns.setConn(pending, conn)
	if isAcknowledged {
		r.confirmTunnel(ts, now)
	}
	return &probeConn{Conn: conn, relay: r, tunnelState: ts, pendingConn: pending, stopWaitingCh: make(chan struct{})}, nil
}

// probeConn is a health check's connection.
type probeConn struct {
	net.Conn
	relay           *Relay
	tunnelState     *tunnelState
	pendingConn     *pendingConn
	firstReadOnce   sync.Once     // the first byte or the end was handled
	stopWaitingCh   chan struct{} // closed when Read is not to wait for a report
	stopWaitingOnce sync.Once
}

func (p *probeConn) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	if n > 0 {
		p.firstReadOnce.Do(p.confirmServer)
	}
	switch {
	case n > 0, err == nil, errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
		return n, err
	}
	p.firstReadOnce.Do(func() { err = p.explainEnd(err) })
	return n, err
}

// confirmServer records the first byte that came back.
func (p *probeConn) confirmServer() {
	now, r := time.Now(), p.relay
	r.mu.Lock()
	defer r.mu.Unlock()
	p.tunnelState.pendingConns.remove(p.pendingConn)
	r.confirmTunnel(p.tunnelState, now)
}

// explainEnd returns why the connection ended before the first byte, if the tunnel tells, else end.
func (p *probeConn) explainEnd(end error) error {
	r := p.relay
	r.markPendingEnded(p.tunnelState, p.pendingConn)
	report := r.awaitEndReport(p.tunnelState, p.pendingConn, false, p.stopWaitingCh)
	r.removePending(p.tunnelState, p.pendingConn)
	switch {
	case report.ownRefusal != nil:
		return report.ownRefusal
	case report.ambiguousRefusal != nil:
		return report.ambiguousRefusal
	case report.isTunnelDone && p.tunnelState.tunnel.Err() != nil:
		return p.tunnelState.tunnel.Err()
	}
	return end
}

// Ping waits for an answer of the machine that connects to the server, if the tunnel can ask it.
func (p *probeConn) Ping(ctx context.Context) error {
	if pinger, ok := p.Conn.(interface {
		Ping(ctx context.Context) error
	}); ok {
		return pinger.Ping(ctx)
	}
	return errors.ErrUnsupported
}

func (r *Relay) removePending(ts *tunnelState, p *pendingConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ts.pendingConns.remove(p)
}

func (r *Relay) markPendingEnded(ts *tunnelState, p *pendingConn) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	ts.pendingConns.markEnded(p, now)
}

// Close closes the connection, and ends a Read that waits for a report.
func (p *probeConn) Close() error {
	p.stopWaiting()
	p.relay.markPendingEnded(p.tunnelState, p.pendingConn)
	return p.Conn.Close()
}

// SetDeadline also ends a Read that waits for a report, if the deadline is in the past.
func (p *probeConn) SetDeadline(t time.Time) error {
	p.stopWaitingIfPast(t)
	return p.Conn.SetDeadline(t)
}

// SetReadDeadline also ends a Read that waits for a report, if the deadline is in the past.
func (p *probeConn) SetReadDeadline(t time.Time) error {
	p.stopWaitingIfPast(t)
	return p.Conn.SetReadDeadline(t)
}

func (p *probeConn) stopWaitingIfPast(t time.Time) {
	if !t.IsZero() && !t.After(time.Now()) {
		p.stopWaiting()
	}
}

func (p *probeConn) stopWaiting() { p.stopWaitingOnce.Do(func() { close(p.stopWaitingCh) }) }
