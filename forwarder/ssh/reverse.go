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
	note    string             // see Note

	forwardSlot chan mux.RemoteForward // holds the forward that is open; empty while it is being changed or closed
}

var (
	_ forwarder.FailureReporter = (*reverseTunnel)(nil)
	_ forwarder.NoteReporter    = (*reverseTunnel)(nil)
)

func openReverseTunnel(ctx context.Context, s *tunnelSpec, m *master, release func()) (forwarder.Tunnel, error) {
	r := &reverseTunnel{spec: s, forwardSlot: make(chan mux.RemoteForward, 1)}
	local := s.localAddrs[0]
	if conn, addr, err := r.dialLocal(ctx, local); err == nil {
		_ = conn.Close()
		local = addr
	}
	if addr := s.takenLoopback(ctx, m); addr != "" {
		f := r.describePortInUse(m, fmt.Errorf("another program answers on %s", addr))
		release()
		return nil, f
	}
	forward := s.remoteForward(local)
	before := s.inspectServer(ctx, m, forward)
	answer := m.openForward(ctx, forward)
	if answer.err != nil {
		f := r.explainOpenError(ctx, m, answer)
		release()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, f
	}
	r.forwardSlot <- forward
	m.destination.setListener(s.listenAddr(), s.name)
	r.failure = r.checkListenAddress(ctx, m, before, answer)
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
	isWanted, isFound, isKnown := true, false, false
	if isLocalhost(s.connection.remoteHost) {
		isWanted = false
		isFound, isKnown = isPublic(ctx, other, port)
	} else {
		isFound, isKnown = s.isListening(ctx, other, port)
	}
	if isKnown {
		return isFound == isWanted
	}
	switch other.askGatewayPorts(ctx, forward) {
	case gatewayPortsNo:
		return !isWanted
	case gatewayPortsYes:
		return isWanted
	case gatewayPortsClientSpecified:
		return true
	}
	return false
}

// inspection is what is known of a server before it listens.
type inspection struct {
	wasPrivate       bool // the port was not open on an address that is not the server's localhost
	isCheckForbidden bool // the server forbids the connections that would show where it listens
	gatewayPorts     gatewayPorts
}

// inspectServer returns what is needed to tell where the server will listen.
func (s *tunnelSpec) inspectServer(ctx context.Context, m *master, forward mux.RemoteForward) (found inspection) {
	if isLocalhost(s.connection.remoteHost) {
		wasPublic, isKnown := isPublic(ctx, m, s.listenPort())
		found.wasPrivate = isKnown && !wasPublic
		return found
	}
	if found.isCheckForbidden = !m.allows(ctx, testHost, s.listenPort()); found.isCheckForbidden {
		found.gatewayPorts = m.askGatewayPorts(ctx, forward)
	}
	return found
}

func (s *tunnelSpec) listenPort() int {
	port, _ := strconv.Atoi(s.remotePort) // the config has validated it
	return port
}

// takenLoopback returns the address of the server's localhost on which something listens already; empty if none is known. sshd listens on
// 127.0.0.1 and ::1, and counts a request as successful if one of them is free: clients would reach the other program on the other.
func (s *tunnelSpec) takenLoopback(ctx context.Context, m *master) string {
	if s.connection.remoteHost != defaultRemoteHost {
		return "" // the server refuses a single address that is in use
	}
	for _, host := range []string{"127.0.0.1", "::1"} {
		if isListening, _ := isReachable(ctx, m, host, s.listenPort()); isListening {
			return net.JoinHostPort(host, s.remotePort)
		}
	}
	return ""
}

// keepalive says when a server frees the port of a dead session.
const keepalive = "sshd gives up a dead session if sshd_config of %s has ClientAliveInterval: with 15, after 45 s; until then it keeps the port"

// describePortInUse returns the failure of a port on which something listens on the server.
func (r *reverseTunnel) describePortInUse(m *master, cause error) *forwarder.Failure {
	server, port := r.spec.serverName(), r.spec.remotePort
	switch owner := m.destination.listenerOf(r.spec.listenAddr()); owner {
	case "":
		return &forwarder.Failure{
			Reason: fmt.Sprintf("port %s of %s is already in use: %v", port, server, cause),
			Hint:   fmt.Sprintf("choose another remote_port, or end what listens there; if that is an earlier session of this service: "+keepalive, server),
		}
	case r.spec.name:
		return &forwarder.Failure{
			Reason: fmt.Sprintf("port %s of %s is still kept by this service's own previous session, which is dead: %v", port, server, cause),
			Hint:   fmt.Sprintf(keepalive+"; ending that sshd process on %[1]s frees it at once", server),
		}
	default:
		return &forwarder.Failure{Reason: fmt.Sprintf("port %s of %s is already in use by service %q: %v", port, server, owner, cause), Hint: "choose another remote_port"}
	}
}

// explainOpenError returns the failure of a server that does not listen.
func (r *reverseTunnel) explainOpenError(ctx context.Context, m *master, answer listenAnswer) *forwarder.Failure {
	server, addr, port := r.spec.serverName(), r.spec.listenAddr(), r.spec.listenPort()
	isListening, isKnown := isReachable(ctx, m, dialableHost(r.spec.connection.remoteHost), port)
	if isListening {
		return r.describePortInUse(m, answer.err)
	}
	forward := r.spec.remoteForward(r.spec.localAddrs[0])
	m.addRestriction("listen "+addr, restriction{isLifted: func(ctx context.Context, other *master) bool {
		isAllowed := other.openForward(ctx, forward).err == nil
		_ = other.control.CloseForward(ctx, forward)
		return isAllowed
	}})
	recheck := m.describeRecheck(r.spec.name)
	if m.hasNoVerdict(answer) {
		return r.describeBindError(answer.err, isKnown, recheck)
	}
	verdict := answer.verdict()
	hint := remoteForwarding.describe(server, fmt.Sprintf("%s (or %d)", addr, port), m.keyOptions(), verdict)
	if port < firstUnprivilegedPort && verdict != verdictUnlisted {
		hint += "; only root may listen on a port below 1024"
	}
	if verdict == verdictUnknown && !isKnown {
		return &forwarder.Failure{
			Reason: fmt.Sprintf("%s cannot listen on %s: %v", server, addr, answer.err),
			Hint:   fmt.Sprintf("check on the server that the port is free; %s; if an earlier session of this service keeps the port: "+keepalive+"; %s", hint, server, recheck),
		}
	}
	return &forwarder.Failure{Reason: fmt.Sprintf("%s does not allow listening on %s: %v", server, addr, answer.err), Hint: hint + "; " + recheck}
}

// firstUnprivilegedPort is the first port on which sshd lets others than root listen.
const firstUnprivilegedPort = 1024

// describeBindError returns the failure of a server that allows listening, but whose system does not. isFree: nothing is known to listen there.
func (r *reverseTunnel) describeBindError(cause error, isFree bool, recheck string) *forwarder.Failure {
	server, host := r.spec.serverName(), r.spec.connection.remoteHost
	hint := fmt.Sprintf(`the port is probably in use: on %s, "ss -ltnp sport = :%s" shows by what; if an earlier session of this service keeps it: `+keepalive, server, r.spec.remotePort, server)
	if !isLocalhost(host) && !isWildcard(host) {
		addressHint := fmt.Sprintf(`remote_host must be an address of %s itself, "localhost", or "0.0.0.0" for all of them`, server)
		if hint = addressHint + "; or " + hint; isFree {
			hint = addressHint
		}
	}
	return &forwarder.Failure{
		Reason: fmt.Sprintf("%s cannot listen on %s, although its settings allow it: %v", server, r.spec.listenAddr(), cause),
		Hint:   hint + "; " + recheck,
	}
}

// checkListenAddress returns a failure if the server is known to listen elsewhere than asked: what GatewayPorts says wins over the request,
// and the server's answer does not tell. If it is not known, that is the tunnel's note.
func (r *reverseTunnel) checkListenAddress(ctx context.Context, m *master, before inspection, answer listenAnswer) *forwarder.Failure {
	server, host := r.spec.serverName(), r.spec.connection.remoteHost
	if isLocalhost(host) {
		isListening := answer.has(listenAddressOverridden)
		if !isListening && before.wasPrivate {
			isListening, _ = isPublic(ctx, m, r.spec.listenPort())
		}
		if isListening {
			return &forwarder.Failure{
				Reason: fmt.Sprintf("%s listens on port %s of all its addresses, not of %s alone: others can connect", server, r.spec.remotePort, host),
				Hint:   fmt.Sprintf("sshd_config of %s must have GatewayPorts clientspecified or no; or set remote_host = \"0.0.0.0\" if others may connect; %s", server, m.describeRecheck(r.spec.name)),
			}
		}
		return nil
	}
	isListening, isKnown := r.spec.isListening(ctx, m, r.spec.listenPort())
	switch {
	case isListening:
		return nil
	case isKnown:
	case before.gatewayPorts == gatewayPortsYes, before.gatewayPorts == gatewayPortsClientSpecified:
		return nil
	case before.gatewayPorts == gatewayPortsNo:
	case r.isReachedFromHere(ctx, m):
		return nil
	default:
		reason := "did not answer in time to the connection that would show it"
		if before.isCheckForbidden {
			reason = "forbids the connection that would show it (PermitOpen, AllowTcpForwarding)"
		}
		r.note = fmt.Sprintf("it is not known whether %[1]s listens on %[2]s, or on its localhost only (GatewayPorts in its sshd_config decides that): it %[3]s; to see it, run on %[1]s: ss -ltn sport = :%[4]s",
			server, r.spec.listenAddr(), reason, r.spec.remotePort)
		m.destination.log.writeLine(r.note)
		return nil
	}
	return &forwarder.Failure{
		Reason: fmt.Sprintf("%s does not listen on %s, but on its localhost only", server, r.spec.listenAddr()),
		Hint:   fmt.Sprintf("sshd_config of %s must have GatewayPorts clientspecified; %s", server, m.describeRecheck(r.spec.name)),
	}
}

// isReachedFromHere reports whether a connection from this machine is known to reach the server's listener.
func (r *reverseTunnel) isReachedFromHere(ctx context.Context, m *master) bool {
	host, publicAddr := r.spec.connection.remoteHost, m.output.publicServerAddr()
	if isWildcard(host) {
		if !publicAddr.IsValid() || host != "*" && publicAddr.Is4() != (host == "0.0.0.0") {
			return false
		}
		host = publicAddr.String()
	}
	return m.isReachedFromHere(ctx, host, r.spec.listenPort())
}

// isListening reports whether the server listens on a port of remote_host, which is not its localhost. If it does not although it has
// accepted the request, it listens on its localhost, IPv4 and IPv6.
func (s *tunnelSpec) isListening(ctx context.Context, m *master, port int) (isListening, isKnown bool) {
	host, publicAddr := s.connection.remoteHost, m.output.publicServerAddr()
	switch {
	case !isWildcard(host):
		return isReachable(ctx, m, host, port)
	case publicAddr.IsValid() && (host == "*" || publicAddr.Is4() == (host == "0.0.0.0")):
		return isReachable(ctx, m, publicAddr.String(), port)
	}
	isListening, isKnown = isPublic(ctx, m, port)
	switch {
	case isListening:
	case host == "0.0.0.0" && !isKnown:
		isAlsoIPv6, isIPv6Known := isReachable(ctx, m, "::1", port)
		isListening = isIPv6Known && !isAlsoIPv6
	case host == "::": // for IPv6 alone
		isAlsoIPv4, isIPv4Known := isReachable(ctx, m, "127.0.0.1", port)
		isListening, isKnown = isIPv4Known && !isAlsoIPv4, isIPv4Known
	}
	return isListening, isKnown || isListening
}

// otherLoopbackHost is an address that reaches a server on all addresses, but not one on localhost. It is for servers whose own address is
// not known: behind a jump host, or on this machine.
const otherLoopbackHost = "127.0.0.2"

// isPublic reports whether the port is open on an address of the server that is not its localhost. Systems other than Linux may not have
// the address, so that only a refused connection tells that nothing listens there.
func isPublic(ctx context.Context, m *master, port int) (isListening, isKnown bool) {
	if addr := m.output.publicServerAddr(); addr.IsValid() {
		return isReachable(ctx, m, addr.String(), port)
	}
	refusal, isKnown := probe(ctx, m, otherLoopbackHost, port)
	if refusal == "" {
		return isKnown, isKnown
	}
	return false, strings.Contains(refusal, "refused")
}

// isReachable reports whether the server itself can connect to an address. It is not known if the server does not say so in time, or
// forbids it.
func isReachable(ctx context.Context, m *master, host string, port int) (isListening, isKnown bool) {
	refusal, isKnown := probe(ctx, m, host, port)
	return isKnown && refusal == "", isKnown && !isResolverMessage(host, refusal)
}

// probe has the server connect to an address, and returns the error that it met there; empty: none. It is not known if the server does not
// say so in time, or forbids it.
func probe(ctx context.Context, m *master, host string, port int) (refusal string, isKnown bool) {
	ctx, cancel := context.WithTimeout(ctx, responseTimeout)
	defer cancel()
	stream, err := m.conn.Open(ctx, host, port)
	if err == nil {
		_ = stream.Close()
		return "", true
	}
	refused, isRefused := errors.AsType[*mux.OpenChannelError](err)
	if !isRefused || refused.Reason != mux.ConnectionFailed {
		return "", false
	}
	return cmp.Or(refused.Message, "refused"), true
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

// Note says that it is not known where the server listens.
func (r *reverseTunnel) Note() string { return r.note }

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
	if err := r.master.openForward(ctx, to).err; err != nil {
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
