package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/ssh/mux"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/sshd"
	"github.com/localport-sh/localport/testdata/tunneltest"
)

// newRechecksRun returns a Run of a driver that looks again and again at what servers forbid.
func newRechecksRun(t *testing.T) forwarder.Run {
	t.Helper()
	r := newRun(t) // its cleanup comes after the driver's
	driverOf(t).recheckInterval = time.Millisecond
	return r
}

// named gives a service a name.
func named(svc project.Service, name string) project.Service {
	svc.Name = name
	return svc
}

// waitUntil waits for a condition that nothing reports.
func waitUntil(t *testing.T, isMet func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for !isMet() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("the condition is not met")
		}
	}
}

func requireOpen(t *testing.T, tunnel forwarder.Tunnel) {
	t.Helper()
	select {
	case <-tunnel.Done():
		t.Fatalf("the tunnel has ended: %v", tunnel.Err())
	default:
	}
}

// requireEcho checks that a connection to a backend still works.
func requireEcho(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := conn.Write([]byte("welcome ")); err != nil {
		t.Fatal(err)
	}
	requireWelcome(t, conn)
}

const liftedReason = "the server now allows what it refused"

// sshd decides what a connection may do when it is made.
func TestRecheck_ChangeOfForwardingRulesIsNoticed(t *testing.T) {
	allowed, other := startBackend(t), startBackend(t)
	server := sshd.Start(t, "PermitOpen "+allowed)
	r := newRechecksRun(t)
	open, closed, proxy := named(newService(server, allowed), "open"), named(newService(server, other), "closed"), named(newSOCKSService(server), "proxy")
	openTunnels := []forwarder.Tunnel{openTunnel(t, open, r), openTunnel(t, closed, r), openTunnel(t, proxy, r)}
	conn := dialTunnel(t, openTunnels[0])
	requireWelcome(t, conn)
	if refusal := dialRefused(t, openTunnels[1]); !refusal.IsFinal || !strings.Contains(refusal.Hint, `the server is asked again every 15 minutes, or at once by "localport restart closed"`) {
		t.Errorf("got %+v", refusal)
	}
	reporter := openTunnels[2].(forwarder.FailureReporter)
	if f := reporter.CurrentFailure(); f == nil || !strings.Contains(f.Hint, `"localport restart proxy"`) {
		t.Errorf("got %+v", f)
	}
	// The same word changes nothing.
	waitUntil(t, func() bool { return countLogins(server) >= 4 })
	for _, tunnel := range openTunnels {
		requireOpen(t, tunnel)
	}
	if reporter.CurrentFailure() == nil {
		t.Error("the failure has gone")
	}
	_ = dialRefused(t, openTunnels[1])
	server.Reconfigure("PermitOpen any")
	for i, svc := range []project.Service{closed, proxy} {
		checkTransient(t, tunneltest.WaitFailure(t, openTunnels[i+1]), liftedReason)
		_ = openTunnels[i+1].Close()
		reopened := openTunnel(t, svc, r)
		if proxied, isSOCKS := reopened.(*socksTunnel); isSOCKS {
			if f := proxied.CurrentFailure(); f != nil {
				t.Errorf("got %+v", f)
			}
			continue
		}
		requireWelcome(t, dialTunnel(t, reopened))
	}
	requireOpen(t, openTunnels[0])
	requireEcho(t, conn)
}

func TestRecheck_ForbiddenForwardingIsAllowedLater(t *testing.T) {
	server := sshd.Start(t, "AllowTcpForwarding no")
	r := newRechecksRun(t)
	svc := newSOCKSService(server)
	tunnel := openTunnel(t, svc, r)
	server.Reconfigure()
	checkTransient(t, tunneltest.WaitFailure(t, tunnel), liftedReason)
	_ = tunnel.Close()
	conn, reply := requestConnect(t, openTunnel(t, svc, r), startBackend(t))
	if reply != 0 {
		t.Fatalf("reply %d", reply)
	}
	requireWelcome(t, conn)
}

// A SOCKS proxy is healthy although one address is forbidden.
func TestRecheck_ForbiddenSOCKSRequestIsAllowedLater(t *testing.T) {
	allowed, other := startBackend(t), startBackend(t)
	server := sshd.Start(t, "PermitOpen 127.0.0.1:1 "+allowed)
	r := newRechecksRun(t)
	svc := newSOCKSService(server)
	tunnel := openTunnel(t, svc, r)
	conn, _ := requestConnect(t, tunnel, allowed)
	requireWelcome(t, conn)
	server.Reconfigure("PermitOpen " + other)
	if _, reply := requestConnect(t, tunnel, other); reply != 2 {
		t.Fatalf("reply %d", reply)
	}
	checkTransient(t, tunneltest.WaitFailure(t, tunnel), liftedReason)
	_ = tunnel.Close()
	requireEcho(t, conn)
	next, _ := requestConnect(t, openTunnel(t, svc, r), other)
	requireWelcome(t, next)
}

func TestRecheck_ListenerMovesToTheAddressThatWasAskedFor(t *testing.T) {
	if l, err := net.Listen("tcp4", "127.0.0.2:0"); errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Skip("127.0.0.2 is missing (ip addr add 127.0.0.2/8 dev lo)")
	} else if err == nil {
		_ = l.Close()
	}
	server := sshd.Start(t, "GatewayPorts no")
	port := netip.MustParseAddrPort(unusedAddr(t)).Port()
	r := newRechecksRun(t)
	svc := newReverseService(t, server, fmt.Sprintf("127.0.0.2:%d", port), startBackend(t))
	tunnel := openTunnel(t, svc, r).(*reverseTunnel)
	if tunnel.CurrentFailure() == nil {
		t.Fatal("no failure")
	}
	connect := func(host string) net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp4", net.JoinHostPort(host, strconv.Itoa(int(port))))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		requireWelcome(t, conn)
		return conn
	}
	conn := connect("127.0.0.1")
	waitUntil(t, func() bool { return countLogins(server) >= 3 })
	requireOpen(t, tunnel)
	server.Reconfigure("GatewayPorts clientspecified")
	checkTransient(t, tunneltest.WaitFailure(t, tunnel), liftedReason)
	_ = tunnel.Close()
	if f := openTunnel(t, svc, r).(*reverseTunnel).CurrentFailure(); f != nil {
		t.Errorf("got %+v", f)
	}
	connect("127.0.0.2")
	requireEcho(t, conn)
	_ = conn.Close()
	<-tunnel.master.doneCh // it has ended with its last connection
}

func TestRecheck_ForbiddenListenerIsAllowedLater(t *testing.T) {
	server := sshd.Start(t, "AllowTcpForwarding local")
	r := newRechecksRun(t)
	shared := openTunnel(t, newService(server, startBackend(t)), r).(*directTunnel)
	svc := newReverseService(t, server, unusedAddr(t), startBackend(t))
	if f := openFailure(t, svc, r); !strings.Contains(f.Reason, "does not allow listening") {
		t.Fatalf("got %+v", f)
	}
	server.Reconfigure()
	waitUntil(t, func() bool { // the service tries again
		tunnel, err := driverOf(t).Open(t.Context(), svc, r)
		if err == nil {
			_ = tunnel.Close()
		}
		return err == nil
	})
	requireOpen(t, shared)
	requireWelcome(t, dialTunnel(t, shared))
}

// Another login would need the user, who is told so.
func TestRecheck_LeavesLoginsOfTheUserToTheUser(t *testing.T) {
	server := sshd.Start(t, "AllowTcpForwarding no")
	svc, r := named(newService(server, startBackend(t)), "web"), newRechecksRun(t)
	r.AskSocket = "asked"
	tunnel := openTunnel(t, svc, r).(*directTunnel)
	if refusal := dialRefused(t, tunnel); !strings.Contains(refusal.Hint, `run "localport login web"`) {
		t.Errorf("hint %q", refusal.Hint)
	}
	if tunnel.master.isRechecking {
		t.Error("another login is tried")
	}
	server.Reconfigure()
	r.AskSocket = "asked again"
	requireWelcome(t, dialTunnel(t, openTunnel(t, svc, r)))
}

func TestMaster_AllowsAddressThatDoesNotAnswer(t *testing.T) {
	tunnel := openDirect(t, newService(sshd.Start(t), startBackend(t)))
	ctx, cancel := context.WithCancel(t.Context())
	if !tunnel.master.allows(ctx, "127.0.0.1", testPort) {
		t.Error("a refused connection counts as forbidden")
	}
	cancel()
	if tunnel.master.allows(ctx, "127.0.0.1", testPort) {
		t.Error("a canceled check counts as allowed")
	}
	if isForbidden(&mux.OpenChannelError{Reason: mux.ConnectionFailed}) || !isForbidden(&mux.OpenChannelError{Reason: mux.Prohibited}) {
		t.Error("refusals are not told apart")
	}
}
