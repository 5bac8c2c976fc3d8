package ssh

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/ssh/mux"
	"github.com/localport-sh/localport/forwarder/wait"
)

// reverseTunnel makes the server listen; ssh itself connects to the local address for each of its clients.
type reverseTunnel struct {
	*tunnel
	spec    *tunnelSpec
	failure *forwarder.Failure // the server listens elsewhere than asked; nil: not that is known

	forwardSlot chan mux.RemoteForward // holds the forward that is open; empty while it is being changed or closed
}

var _ forwarder.FailureReporter = (*reverseTunnel)(nil)

func openReverseTunnel(ctx context.Context, s *tunnelSpec, m *master, release func()) (forwarder.Tunnel, error) {
	r := &reverseTunnel{spec: s, forwardSlot: make(chan mux.RemoteForward, 1)}
	local := s.localAddrs[0]
	if conn, addr, err := r.dialLocal(ctx, local); err == nil {
		_ = conn.Close()
		local = addr
	}
	forward := s.remoteForward(local)
	wasPublic := r.isListeningPublicly(ctx, m)
	if err := m.control.OpenForward(ctx, forward); err != nil {
		f := r.explainOpenError(ctx, m, err)
		release()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, f
	}
	r.forwardSlot <- forward
	m.destination.setListener(s.listenAddr(), s.name)
	r.failure = r.checkListenAddress(ctx, m, wasPublic)
	r.tunnel = newStayingTunnel(m, func() {
		r.closeForward()
		if !wait.IsClosed(r.leaveCh) {
			release()
			return
		}
		m.destination.tasks.Go(func(ctx context.Context) {
			m.output.waitForwardedConns(ctx, m.doneCh) // they go on here
			release()
		})
	})
	if r.failure != nil {
		m.addRestriction("listen", restriction{tunnel: r.tunnel, isKept: true, isLifted: func(ctx context.Context, other *master) bool {
			return r.spec.listensAsAsked(ctx, other, forward)
		}})
	}
	return r, nil
}

// closeForward makes the server no longer listen.
func (r *reverseTunnel) closeForward() {
	// The limit and the ignored error are for a master that ends anyway or does not answer.
	ctx, cancel := r.master.destination.tasks.NewContext()
	defer cancel()
	ctx, cancelTimeout := context.WithTimeout(ctx, time.Second)
	defer cancelTimeout()
	// ssh answers for a server that does not: whether that has stopped listening is not known then.
	if r.master.control.CloseForward(ctx, <-r.forwardSlot) == nil && r.master.currentSuspicion() == nil {
		_ = r.master.conn.Ping(ctx) // the server has handled the close before it answers: another master may listen there now
		r.master.destination.setListener(r.spec.listenAddr(), "")
	}
}

// listenAddr is the address on which the server is to listen.
func (s *tunnelSpec) listenAddr() string {
	return net.JoinHostPort(s.connection.remoteHost, s.remotePort)
}

// remoteForward returns the request to ssh.
func (s *tunnelSpec) remoteForward(local netip.AddrPort) mux.RemoteForward {
	return mux.RemoteForward{ListenHost: s.connection.remoteHost, ListenPort: s.listenPort(), DialHost: local.Addr().String(), DialPort: int(local.Port())}
}

// listensAsAsked reports whether the server is known to listen where it was asked to, for another master. It tries another port, because this
// one is in use.
func (s *tunnelSpec) listensAsAsked(ctx context.Context, other *master, forward mux.RemoteForward) bool {
	forward.ListenPort = 0
	port, err := other.control.OpenForwardAnywhere(ctx, forward)
	if err != nil {
		return false
	}
	defer func() { _ = other.control.CloseForward(ctx, forward) }()
	host, isWantedReachable := s.connection.remoteHost, true
	if isLocalhost(host) || isWildcard(host) {
		isWantedReachable = isWildcard(host)
		host = other.output.publicServerHost()
	}
	if host == "" {
		return false
	}
	isListening, isKnown := isReachable(ctx, other, host, port)
	return isKnown && isListening == isWantedReachable
}

func (s *tunnelSpec) listenPort() int {
	port, _ := strconv.Atoi(s.remotePort) // the config has validated it
	return port
}

// explainOpenError returns the failure of a server that does not listen. Its own refusal does not say why: whether something listens there
// already tells.
func (r *reverseTunnel) explainOpenError(ctx context.Context, m *master, openErr error) *forwarder.Failure {
	server, port := r.spec.serverName(), r.spec.remotePort
	const keepalive = "sshd gives up a dead session if sshd_config of %s has ClientAliveInterval: with 15, after 45 s; until then it keeps the port"
	isListening, isKnown := isReachable(ctx, m, dialableHost(r.spec.connection.remoteHost), r.spec.listenPort())
	owner := m.destination.listenerOf(r.spec.listenAddr())
	switch {
	case isListening && owner != "" && owner == r.spec.name:
		return &forwarder.Failure{
			Reason: fmt.Sprintf("port %s of %s is still kept by this service's own previous session, which is dead: %v", port, server, openErr),
			Hint:   fmt.Sprintf(keepalive+"; ending that sshd process on %[1]s frees it at once", server),
		}
	case isListening && owner != "":
		return &forwarder.Failure{Reason: fmt.Sprintf("port %s of %s is already in use by service %q: %v", port, server, owner, openErr), Hint: "choose another remote_port"}
	case isListening:
		return &forwarder.Failure{
			Reason: fmt.Sprintf("port %s of %s is already in use: %v", port, server, openErr),
			Hint:   fmt.Sprintf("choose another remote_port, or end what listens there; if that is an earlier session of this service: "+keepalive, server),
		}
	}
	forward := r.spec.remoteForward(r.spec.localAddrs[0])
	m.addRestriction("listen "+r.spec.listenAddr(), restriction{isLifted: func(ctx context.Context, other *master) bool {
		isAllowed := other.control.OpenForward(ctx, forward) == nil
		_ = other.control.CloseForward(ctx, forward)
		return isAllowed
	}})
	if isKnown {
		return &forwarder.Failure{
			Reason: fmt.Sprintf("%s does not allow listening on port %s, which is free: %v", server, port, openErr),
			Hint:   fmt.Sprintf("sshd_config of %s must allow it: AllowTcpForwarding yes (or remote), and the port in PermitListen if that is set; only root may listen on a port below 1024; %s", server, m.describeRecheck(r.spec.name)),
		}
	}
	return &forwarder.Failure{
		Reason: fmt.Sprintf("%s cannot listen on port %s: %v", server, port, openErr),
		Hint: fmt.Sprintf("check on the server that the port is free and that sshd_config allows it (AllowTcpForwarding, PermitListen, GatewayPorts); if an earlier session of this service keeps it: "+keepalive+"; %s",
			server, m.describeRecheck(r.spec.name)),
	}
}

// checkListenAddress returns a failure if the server is known to listen elsewhere than asked: what GatewayPorts says wins over the request,
// and the server does not report it. wasPublic is the result of isListeningPublicly before the server listened.
func (r *reverseTunnel) checkListenAddress(ctx context.Context, m *master, wasPublic bool) *forwarder.Failure {
	server, host := r.spec.serverName(), r.spec.connection.remoteHost
	isRefused := func(host string) bool {
		isListening, isKnown := isReachable(ctx, m, host, r.spec.listenPort())
		return isKnown && !isListening
	}
	publicHost := m.output.publicServerHost()
	switch {
	case isLocalhost(host):
		if !wasPublic && r.isListeningPublicly(ctx, m) {
			return &forwarder.Failure{
				Reason: fmt.Sprintf("%s listens on port %s of all its addresses, not of %s alone: others can connect", server, r.spec.remotePort, host),
				Hint:   fmt.Sprintf("sshd_config of %s must have GatewayPorts clientspecified or no; or set remote_host = \"0.0.0.0\" if others may connect; %s", server, m.describeRecheck(r.spec.name)),
			}
		}
		return nil
	case isWildcard(host) && (publicHost == "" || !isRefused(publicHost)), !isWildcard(host) && !isRefused(host):
		return nil
	}
	return &forwarder.Failure{
		Reason: fmt.Sprintf("%s does not listen on %s, but on its localhost only", server, r.spec.listenAddr()),
		Hint:   fmt.Sprintf("sshd_config of %s must have GatewayPorts clientspecified; %s", server, m.describeRecheck(r.spec.name)),
	}
}

// isListeningPublicly reports whether the port is known to be open on the address that the server has in the network.
func (r *reverseTunnel) isListeningPublicly(ctx context.Context, m *master) bool {
	host := m.output.publicServerHost()
	if host == "" || !isLocalhost(r.spec.connection.remoteHost) {
		return false
	}
	isListening, _ := isReachable(ctx, m, host, r.spec.listenPort())
	return isListening
}

// isReachable reports whether the server itself can connect to an address. It is not known if the server does not say so in time, or
// forbids it.
func isReachable(ctx context.Context, m *master, host string, port int) (isListening, isKnown bool) {
	ctx, cancel := context.WithTimeout(ctx, responseTimeout)
	defer cancel()
	stream, err := m.conn.Open(ctx, host, port)
	if err == nil {
		_ = stream.Close()
		return true, true
	}
	refused, isRefused := errors.AsType[*mux.OpenChannelError](err)
	return false, isRefused && refused.Reason == mux.ConnectionFailed && !isResolverMessage(host, refused.Message)
}

// isLocalhost reports whether sshd listens on its loopback addresses for this host, whatever GatewayPorts says except yes.
func isLocalhost(host string) bool {
	return host == "localhost" || host == "127.0.0.1" || host == "::1"
}

// isWildcard reports whether sshd listens on all addresses for this host (ssh(1), -R).
func isWildcard(host string) bool { return host == "*" || host == "0.0.0.0" || host == "::" }

// dialableHost returns the host to connect to where a server listens on a host.
func dialableHost(host string) string {
	if isWildcard(host) {
		return defaultRemoteHost
	}
	return host
}

// CurrentFailure says that the server listens elsewhere than asked, which lasts as long as the tunnel, or does not answer.
func (r *reverseTunnel) CurrentFailure() *forwarder.Failure {
	return cmp.Or(r.failure, r.tunnel.CurrentFailure())
}

// Dial connects to the local address, as ssh does for a client of the server's port. If the local server has moved to the other loopback
// address, ssh connects to that from now on.
func (r *reverseTunnel) Dial(ctx context.Context) (net.Conn, error) {
	var forward mux.RemoteForward
	select {
	case forward = <-r.forwardSlot:
	default: // it is being changed or closed
		return nil, net.ErrClosed
	}
	current := netip.AddrPortFrom(netip.MustParseAddr(forward.DialHost), uint16(forward.DialPort)) //nolint:gosec // a port
	conn, addr, err := r.dialLocal(ctx, current)
	if err == nil && addr != current {
		forward, err = r.changeForward(ctx, forward, r.spec.remoteForward(addr))
		if err != nil {
			_ = conn.Close()
			conn = nil
		}
	}
	r.forwardSlot <- forward
	return conn, err
}

// changeForward makes ssh connect to another local address, and returns the forward to change the next time: after an error, which may
// leave none, it is tried again.
func (r *reverseTunnel) changeForward(ctx context.Context, from, to mux.RemoteForward) (mux.RemoteForward, error) {
	_ = r.master.control.CloseForward(ctx, from) // an error: it is not open
	if err := r.master.control.OpenForward(ctx, to); err != nil {
		return from, &forwarder.Refusal{Reason: fmt.Sprintf("%s no longer listens on port %s: %v", r.spec.serverName(), r.spec.remotePort, err), IsConnectFailure: true}
	}
	return to, nil
}

// dialLocal connects to the first local address on which something listens; it tries preferred first.
func (r *reverseTunnel) dialLocal(ctx context.Context, preferred netip.AddrPort) (net.Conn, netip.AddrPort, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", preferred.String())
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return conn, preferred, err
	}
	for _, addr := range r.spec.localAddrs {
		if addr == preferred {
			continue
		}
		if conn, err := dialer.DialContext(ctx, "tcp", addr.String()); err == nil {
			return conn, addr, nil
		}
	}
	var texts []string
	for _, addr := range r.spec.localAddrs {
		texts = append(texts, addr.String())
	}
	return nil, preferred, &forwarder.Refusal{Reason: "nothing listens on " + strings.Join(texts, " or ") + " on this machine", IsConnectFailure: true}
}
