package ssh

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/localport-sh/localport/forwarder/ssh/mux"
	"github.com/localport-sh/localport/forwarder/wait"
)

// sshd answers a request to listen with yes or no. Why it refuses, and that it listens elsewhere than asked, it says in messages for debugging
// (RFC 4253, section 11.3) before the answer. ssh logs both.

// Texts of sshd.
const (
	listenAddressOverridden = "overridden by server GatewayPorts"    // it listens on all addresses (channel_fwd_bind_addr)
	forwardingDisabled      = "Server has disabled port forwarding." // for everyone, for this key, or for a privileged port
	listenRefused           = "port forwarding refused"              // by PermitListen, or the key's permitlisten
)

// serverMessages is what a server has said beside its answers.
type serverMessages struct {
	software        string         // of the server, as "OpenSSH_9.2p1"; empty: not known
	key             keyOptions     // of the key that logged in
	remarks         []string       // since the last answer to a request to listen
	listenAnswers   int            // to requests to listen
	listenRemarks   []string       // those before the last of these answers
	originatorPorts []int          // where the last connections to the server's listeners came from
	changed         wait.Broadcast // listenAnswers or originatorPorts
}

const (
	maxRemarks         = 16
	maxOriginatorPorts = 16
)

// parseServerMessage parses a message of level DEBUG1 that repeats or follows what the server said. p.mu is held.
func (p *outputParser) parseServerMessage(message string) {
	s := &p.server
	if text, ok := strings.CutPrefix(message, "Remote: "); ok && len(s.remarks) < maxRemarks {
		if options, isKey := parseKeyOptions(text); isKey {
			s.key = options
			s.changed.Announce()
		} else {
			s.remarks = append(s.remarks, text)
		}
	}
	if _, software, ok := strings.Cut(message, ", remote software version "); ok && s.software == "" {
		s.software = software
	}
	if strings.HasPrefix(message, "mux_confirm_remote_forward: ") {
		s.listenAnswers++
		s.listenRemarks, s.remarks = s.remarks, nil
		s.changed.Announce()
	}
	if _, port, ok := strings.Cut(message, ", originator "); ok && strings.HasPrefix(message, forwardedConnection) {
		_, port, _ = strings.Cut(port, " port ")
		number, _ := strconv.Atoi(port)
		s.originatorPorts = append(s.originatorPorts, number)
		s.originatorPorts = s.originatorPorts[max(0, len(s.originatorPorts)-maxOriginatorPorts):]
		s.changed.Announce()
	}
}

// forwardedConnection begins the message about a connection to a port on which the server listens: "listen 0.0.0.0 port 80, originator 192.0.2.7
// port 41234".
const forwardedConnection = "client_request_forwarded_tcpip: "

// logDelay is how long ssh's log may take to arrive after what it is about.
const logDelay = time.Second

// waitServer returns true when condition holds, which is called with p.mu held, and false if that is not within logDelay.
func (p *outputParser) waitServer(ctx context.Context, condition func(*serverMessages) bool) bool {
	ctx, cancel := context.WithTimeout(ctx, logDelay)
	defer cancel()
	for {
		p.mu.Lock()
		holds, changedCh := condition(&p.server), p.server.changed.Changed()
		p.mu.Unlock()
		if holds {
			return true
		}
		select {
		case <-changedCh:
		case <-ctx.Done():
			return false
		}
	}
}

// listenAnswer is how a server has answered a request to listen.
type listenAnswer struct {
	err     error
	remarks []string // what it said of that
	isKnown bool     // the remarks are complete
}

// has reports whether one of the remarks contains text.
func (a listenAnswer) has(text string) bool {
	return slices.ContainsFunc(a.remarks, func(remark string) bool { return strings.Contains(remark, text) })
}

// verdict returns what the server has said of the setting that forbids it to listen.
func (a listenAnswer) verdict() forwardingVerdict {
	switch {
	case a.has(forwardingDisabled):
		return verdictDisabled
	case a.has(listenRefused):
		return verdictUnlisted
	}
	return verdictUnknown
}

// hasNoVerdict reports whether sshd has refused without a word, as it does when the system does not let it listen.
func (m *master) hasNoVerdict(a listenAnswer) bool {
	return a.isKnown && a.verdict() == verdictUnknown && isOpenSSH(m.serverSoftware())
}

// isOpenSSH reports whether a server is known to be sshd.
func isOpenSSH(software string) bool { return strings.HasPrefix(software, "OpenSSH_") }

func (m *master) serverSoftware() string {
	m.output.mu.Lock()
	defer m.output.mu.Unlock()
	return m.output.server.software
}

// keyOptions returns the options of the key that logged in.
func (m *master) keyOptions() keyOptions {
	m.output.mu.Lock()
	defer m.output.mu.Unlock()
	return m.output.server.key
}

// openForward makes the server listen.
func (m *master) openForward(ctx context.Context, f mux.RemoteForward) (answer listenAnswer) {
	select {
	case m.listenSlot <- struct{}{}:
		defer func() { <-m.listenSlot }()
	case <-ctx.Done():
		return listenAnswer{err: ctx.Err()}
	}
	count := 0
	m.output.waitServer(ctx, func(s *serverMessages) bool { count = s.listenAnswers; return true })
	if answer.err = m.control.OpenForward(ctx, f); ctx.Err() != nil {
		return answer
	}
	answer.isKnown = m.output.waitServer(ctx, func(s *serverMessages) bool {
		answer.remarks = s.listenRemarks
		return s.listenAnswers > count
	})
	if !answer.isKnown {
		answer.remarks = nil
	}
	return answer
}

// gatewayPorts is GatewayPorts of a server: whether it listens where it is asked to (sshd_config(5)).
type gatewayPorts int

const (
	gatewayPortsUnknown         gatewayPorts = iota
	gatewayPortsNo                           // on localhost, whatever the request is
	gatewayPortsYes                          // on all addresses
	gatewayPortsClientSpecified              // where it is asked to
)

// unassignableHost is an address that no machine has (RFC 1112, section 4), so that a server that listens where it is asked to cannot.
const unassignableHost = "240.0.0.1"

// askGatewayPorts returns the server's GatewayPorts, without a connection through the server, by a request for an address that it does not have.
// It is known of sshd only: other servers may take the address for a name. The port must be free.
func (m *master) askGatewayPorts(ctx context.Context, f mux.RemoteForward) gatewayPorts {
	if !isOpenSSH(m.serverSoftware()) {
		return gatewayPortsUnknown
	}
	f.ListenHost = unassignableHost
	answer := m.openForward(ctx, f)
	if answer.err == nil {
		_ = m.control.CloseForward(ctx, f)
	}
	switch {
	case !answer.isKnown:
		return gatewayPortsUnknown
	case answer.has(listenAddressOverridden):
		return gatewayPortsYes
	case answer.err == nil:
		return gatewayPortsNo
	case answer.verdict() != verdictUnknown:
		return gatewayPortsUnknown
	}
	return gatewayPortsClientSpecified
}

// isReachedFromHere reports whether a connection from this machine is known to reach the server's listener: ssh names the port that it comes from.
// If it does not, that says nothing, because there may be a firewall or an address translation between.
func (m *master) isReachedFromHere(ctx context.Context, host string, port int) bool {
	ctx, cancel := context.WithTimeout(ctx, logDelay)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return false
	}
	defer conn.Close()
	return m.output.waitServer(ctx, func(s *serverMessages) bool {
		return slices.Contains(s.originatorPorts, conn.LocalAddr().(*net.TCPAddr).Port)
	})
}
