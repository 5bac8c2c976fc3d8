package ssh

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/sshd"
)

// newReverseService returns a service with reverse: the server listens on remoteAddr and forwards to local.
func newReverseService(t *testing.T, server *sshd.Server, remoteAddr, local string) project.Service {
	t.Helper()
	svc := newService(server, remoteAddr)
	svc.Reverse = true
	addr := netip.MustParseAddrPort(local)
	svc.LocalPort, svc.LocalAddress = int(addr.Port()), addr.Addr()
	return svc
}

func TestReverseTunnel_ServerListensAndConnectsHere(t *testing.T) {
	server := sshd.Start(t)
	remoteAddr := unusedAddr(t)
	r := newRun(t)
	tunnel := openTunnel(t, newReverseService(t, server, remoteAddr, startBackend(t)), r)
	conn, err := net.Dial("tcp4", remoteAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	requireWelcome(t, conn)
	probe, err := tunnel.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	requireWelcome(t, probe)
	_ = probe.Close()
	// A second listener on the same port of the server fails and affects no other tunnel.
	other := openTunnel(t, newService(server, startBackend(t)), r)
	busy := newReverseService(t, server, startBackend(t), startBackend(t))
	if f := openFailure(t, busy, r); f.Class != forwarder.Transient || !strings.Contains(f.Reason, "remote port forwarding failed for listen port") {
		t.Errorf("port in use: %+v", f)
	}
	_ = tunnel.Close()
	if err := other.(*directTunnel).master.conn.Ping(t.Context()); err != nil { // the server has handled the close before it answers
		t.Fatal(err)
	}
	if conn, err := net.Dial("tcp4", remoteAddr); err == nil {
		_ = conn.Close()
		t.Error("the server still listens")
	}
	requireWelcome(t, dialTunnel(t, other))
}

func TestReverseTunnel_RefusesWhenNothingListensLocally(t *testing.T) {
	tunnel := openTunnel(t, newReverseService(t, sshd.Start(t), unusedAddr(t), unusedAddr(t)), newRun(t))
	if r := dialRefused(t, tunnel); !r.IsConnectFailure || !strings.HasPrefix(r.Reason, "nothing listens on 127.0.0.1:") {
		t.Errorf("got %+v", r)
	}
}
