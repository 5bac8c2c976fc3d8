package supervisor

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/localport-sh/localport/forwarder"
)

// path leads to a service for its probe: through the tunnel, never through our own listener.
type path struct {
	relay  gate
	tunnel forwarder.Tunnel
	// reached is set when the far end is known to be there: it was acknowledged, or a byte came from it.
	reached *atomic.Bool
	host    host
	local   netip.AddrPort
}

// Dir is the project's root: a check that starts something starts it there.
func (p path) Dir() string { return p.host.dir }

// Environ is the environment of the project's children.
func (p path) Environ() []string { return p.host.environ() }

// Local is the address that clients connect to.
func (p path) Local() netip.AddrPort { return p.local }

func (p path) Dial(ctx context.Context) (net.Conn, error) {
	conn, err := p.relay.Dial(ctx)
	if err != nil {
		return nil, err
	}
	if p.tunnel.Acknowledges() {
		p.reached.Store(true)
	}
	return &heard{conn, p.reached}, nil
}

func (p path) Acknowledges() bool { return p.tunnel.Acknowledges() }

// heard notes that something came from the far end.
type heard struct {
	net.Conn
	reached *atomic.Bool
}

func (h *heard) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	if n > 0 {
		h.reached.Store(true)
	}
	return n, err
}

// CloseWrite passes an end of file on.
func (h *heard) CloseWrite() error {
	if half, ok := h.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
