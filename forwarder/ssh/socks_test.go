package ssh

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/sshd"
	"github.com/localport-sh/localport/testdata/syncbuf"
)

// newSOCKSService returns a service that is a SOCKS proxy through the server.
func newSOCKSService(server *sshd.Server) project.Service {
	svc := newService(server, "127.0.0.1:1")
	svc.RemotePort, svc.Connection.Settings["remote_host"], svc.Connection.Settings["socks"] = "", "", true
	return svc
}

// requestConnect sends a SOCKS request through a tunnel and returns the connection and the reply.
func requestConnect(t *testing.T, tunnel forwarder.Tunnel, to string) (net.Conn, byte) {
	t.Helper()
	conn, err := tunnel.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	addr := netip.MustParseAddrPort(to)
	ip := addr.Addr().As4()
	go func() {
		_, _ = conn.Write(append([]byte{5, 1, 0, 5, 1, 0, 1}, ip[0], ip[1], ip[2], ip[3], byte(addr.Port()>>8), byte(addr.Port())))
	}()
	var answer [12]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		t.Fatal(err)
	}
	return conn, answer[3]
}

func TestSOCKSTunnel_ConnectsAnywhereAndReportsRefusal(t *testing.T) {
	r, unused := newRun(t), unusedAddr(t)
	tunnel := openTunnel(t, newSOCKSService(sshd.Start(t)), r)
	if f := tunnel.(forwarder.FailureReporter).CurrentFailure(); f != nil {
		t.Errorf("failure %+v", f)
	}
	conn, reply := requestConnect(t, tunnel, startBackend(t))
	if reply != 0 {
		t.Fatalf("refused: %d", reply)
	}
	requireWelcome(t, conn)
	if _, reply := requestConnect(t, tunnel, unused); reply != 5 {
		t.Errorf("reply for an unused port: %d", reply)
	}
	refusal := <-tunnel.Refusals()
	if want := "127.0.0.1 cannot connect to " + unused + ": Connection refused"; refusal.Reason != want || !refusal.IsRequest || refusal.IsConnectFailure {
		t.Errorf("reported %+v", refusal)
	}
	if log := r.Log.(*syncbuf.Buffer).String(); !strings.Contains(log, "SOCKS: "+refusal.Reason) {
		t.Errorf("the log does not show the refused request:\n%s", log)
	}
}

func TestSOCKSTunnel_ForbiddenForwardingIsAFailure(t *testing.T) {
	tunnel := openTunnel(t, newSOCKSService(sshd.Start(t, "AllowTcpForwarding no")), newRun(t))
	f := tunnel.(forwarder.FailureReporter).CurrentFailure()
	if f == nil || !strings.Contains(f.Reason, "127.0.0.1 does not allow forwarding") || !strings.Contains(f.Hint, "AllowTcpForwarding") {
		t.Errorf("failure %+v", f)
	}
	if _, reply := requestConnect(t, tunnel, startBackend(t)); reply != 2 {
		t.Errorf("reply %d", reply)
	}
	if f := tunnel.(forwarder.FailureReporter).CurrentFailure(); f == nil {
		t.Error("no failure after a refused request")
	}
}

func TestSOCKSTunnel_FailureEndsWithTheFirstConnection(t *testing.T) {
	backend, run := startBackend(t), newRun(t)
	svc := newSOCKSService(sshd.Start(t, "PermitOpen "+backend))
	tunnel := openTunnel(t, svc, run)
	reporter := tunnel.(forwarder.FailureReporter)
	if reporter.CurrentFailure() == nil {
		t.Error("no failure before the first connection")
	}
	conn, _ := requestConnect(t, tunnel, backend)
	requireWelcome(t, conn)
	<-reporter.FailureChanged()
	if f := reporter.CurrentFailure(); f != nil {
		t.Errorf("failure %+v", f)
	}
	if f := openTunnel(t, svc, run).(forwarder.FailureReporter).CurrentFailure(); f != nil {
		t.Errorf("the next tunnel has the failure %+v", f)
	}
}
