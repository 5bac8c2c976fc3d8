package service

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/probe"
)

// probeDialer connects a health check to its service through the tunnel, never through our own listener.
type probeDialer struct {
	port   Port
	tunnel forwarder.Tunnel
	// isReached is set when the connection was acknowledged or a byte came back.
	isReached *atomic.Bool
	host      *Host
	local     netip.AddrPort
	early     *earlyReport
}

// earlyReport is what a check says before it has ended.
type earlyReport struct {
	ch        chan<- struct{} // receives a value, unless it is full
	roundTrip time.Duration   // 0: nothing was reported
}

// ReportEarlySuccess implements probe.EarlySuccessReporter.
func (p probeDialer) ReportEarlySuccess(roundTrip time.Duration) {
	p.early.roundTrip = roundTrip
	select {
	case p.early.ch <- struct{}{}:
	default:
	}
}

// Dir is the project's root, the working directory of a check's process.
func (p probeDialer) Dir() string { return p.host.Dir }

// Environ is the environment of a check's process.
func (p probeDialer) Environ() []string { return p.host.Environ() }

// LocalAddr is the address that clients connect to.
func (p probeDialer) LocalAddr() netip.AddrPort { return p.local }

func (p probeDialer) Dial(ctx context.Context) (net.Conn, error) {
	conn, err := p.port.Dial(ctx)
	if err != nil {
		return nil, err
	}
	if p.tunnel.Acknowledges() {
		p.isReached.Store(true)
	}
	return &observedConn{conn, p.isReached}, nil
}

func (p probeDialer) Acknowledges() bool { return p.tunnel.Acknowledges() }

// observedConn records that a byte came back.
type observedConn struct {
	net.Conn
	isReached *atomic.Bool
}

func (c *observedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.isReached.Store(true)
	}
	return n, err
}

// Ping implements probe.Pinger.
func (c *observedConn) Ping(ctx context.Context) error {
	if pinger, ok := c.Conn.(probe.Pinger); ok {
		return pinger.Ping(ctx)
	}
	return errors.ErrUnsupported
}

// CloseWrite half-closes the connection if it can be half-closed.
func (c *observedConn) CloseWrite() error {
	if conn, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return conn.CloseWrite()
	}
	return nil
}
