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

// reverseTunnel makes the server listen; ssh itself connects to the local address for each of its clients.
type reverseTunnel struct {
	*tunnel
	localAddr string
}

func openReverseTunnel(ctx context.Context, s *tunnelSpec, m *master, release func()) (forwarder.Tunnel, error) {
	remoteForward, err := s.remoteForward()
	if err == nil {
		err = m.control.OpenForward(ctx, remoteForward)
	}
	if err != nil {
		release()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &forwarder.Failure{
			Reason: fmt.Sprintf("%s cannot listen on port %s: %v", s.connection.host, s.remotePort, err),
			Hint:   "check on the server that the port is free and that sshd_config allows it (AllowTcpForwarding, PermitListen, GatewayPorts)",
		}
	}
	r := &reverseTunnel{localAddr: s.localAddr}
	r.tunnel = newTunnel(m, func() {
		// The limit and the ignored error are for a master that ends anyway or does not answer.
		ctx, cancel := m.destination.tasks.NewContext()
		defer cancel()
		ctx, cancelTimeout := context.WithTimeout(ctx, time.Second)
		defer cancelTimeout()
		_ = m.control.CloseForward(ctx, remoteForward)
		release()
	})
	return r, nil
}

// remoteForward returns the request to ssh.
func (s *tunnelSpec) remoteForward() (f mux.RemoteForward, err error) {
	host, port, err := net.SplitHostPort(s.localAddr)
	if err != nil {
		return f, err
	}
	f = mux.RemoteForward{ListenHost: s.connection.remoteHost, DialHost: host}
	if f.DialPort, err = strconv.Atoi(port); err != nil {
		return f, err
	}
	f.ListenPort, err = strconv.Atoi(s.remotePort)
	return f, err
}

// Dial connects to the local address, as ssh does for a client of the server's port.
func (r *reverseTunnel) Dial(ctx context.Context) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", r.localAddr)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, &forwarder.Refusal{Reason: "nothing listens on " + r.localAddr + " on this machine", IsConnectFailure: true}
	}
	return conn, err
}
