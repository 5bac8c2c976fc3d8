package service

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/localport-sh/localport/forwarder"
)

// probePath leads to a service for its health check: through the tunnel, never through our own listener.
type probePath struct {
	port   Port
	tunnel forwarder.Tunnel
	// isReached is set when the far end is known to be there: it was acknowledged, or a byte came from it.
	isReached *atomic.Bool
	host      *Host
	local     netip.AddrPort
}

// Dir is the project's root: a check that starts something starts it there.
func (p probePath) Dir() string { return p.host.Dir }

// Environ is the environment of the project's children.
func (p probePath) Environ() []string { return p.host.Environ() }

// Local is the address that clients connect to.
func (p probePath) Local() netip.AddrPort { return p.local }

func (p probePath) Dial(ctx context.Context) (net.Conn, error) {
	conn, err := p.port.Dial(ctx)
	if err != nil {
		return nil, err
	}
	if p.tunnel.Acknowledges() {
		p.isReached.Store(true)
	}
	return &observedConn{conn, p.isReached}, nil
}

func (p probePath) Acknowledges() bool { return p.tunnel.Acknowledges() }

// observedConn notes that something came from the far end.
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

// CloseWrite passes an end of file on.
func (c *observedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
