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
	// reached is set when the far end is known to be there: it was acknowledged, or a byte came from it.
	reached *atomic.Bool
	host    *Host
	local   netip.AddrPort
}

// Dir is the project's root: a check that starts something starts it there.
func (p probePath) Dir() string { return p.host.Dir }

// Environ is the environment of the project's children.
func (p probePath) Environ() []string { return p.host.Environ() }

// LocalAddr is the address that clients connect to.
func (p probePath) LocalAddr() netip.AddrPort { return p.local }

func (p probePath) Dial(ctx context.Context) (net.Conn, error) {
	conn, err := p.port.Dial(ctx)
	if err != nil {
		return nil, err
	}
	if p.tunnel.Acknowledges() {
		p.reached.Store(true)
	}
	return &reachedConn{conn, p.reached}, nil
}

func (p probePath) Acknowledges() bool { return p.tunnel.Acknowledges() }

// reachedConn notes that something came from the far end.
type reachedConn struct {
	net.Conn
	reached *atomic.Bool
}

func (c *reachedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.reached.Store(true)
	}
	return n, err
}

// CloseWrite passes an end of file on.
func (c *reachedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
