package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/ssh/mux"
)

// reverse leads from the far side to here: ssh itself connects to the local port.
type reverse struct {
	*tunnel
	addr string
}

func openReverse(ctx context.Context, t *spec, m *master, leave func()) (forwarder.Tunnel, error) {
	f, err := t.forward()
	if err == nil {
		err = m.control.Forward(ctx, f)
	}
	if err != nil {
		leave()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &forwarder.Failure{
			Reason: fmt.Sprintf("%s does not listen for us: %v", t.to.host, err),
			Hint:   "something else may listen there, or the server does not allow it (AllowTcpForwarding, PermitListen, GatewayPorts)",
		}
	}
	r := &reverse{addr: t.local}
	r.tunnel = newTunnel(m, func() {
		// To a master that ends anyway, or answers nothing, it need not be said.
		ctx, cancel := m.at.tasks.NewContext()
		defer cancel()
		ctx, stop := context.WithTimeout(ctx, time.Second)
		defer stop()
		_ = m.control.Cancel(ctx, f)
		leave()
	})
	return r, nil
}

// forward is what ssh is asked for.
func (t *spec) forward() (f mux.Forward, err error) {
	host, port, err := net.SplitHostPort(t.local)
	if err != nil {
		return f, err
	}
	f = mux.Forward{Listen: t.to.remoteHost, To: host}
	if f.ToPort, err = strconv.Atoi(port); err != nil {
		return f, err
	}
	f.ListenPort, err = strconv.Atoi(t.port)
	return f, err
}

// Dial connects to the local port, as ssh would for a client of the far side's.
func (r *reverse) Dial(ctx context.Context) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", r.addr)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, &forwarder.Refusal{Reason: "nothing listens on " + r.addr + " here", Connect: true}
	}
	return conn, err
}
