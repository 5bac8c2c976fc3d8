package ssh

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/testdata/sshd"
	"github.com/localport-sh/localport/testdata/tunneltest"
)

func TestMaster_LivenessCheckSetsUnresponsiveMasterAside(t *testing.T) {
	server := sshd.Start(t)
	svc := newService(server, startBackend(t))
	svc.Connection.Settings["options"] = map[string]string{"ServerAliveInterval": "60"}
	tunnel := openDirect(t, svc)
	tunnel.CheckConnection()
	requireWelcome(t, dialTunnel(t, tunnel))
	defer server.Kill() // else the backend would wait for its clients
	server.Freeze()
	tunnel.CheckConnection()
	checkTransient(t, tunneltest.WaitFailure(t, tunnel), "the ssh server did not answer within 3s")
}

// A ping sent before a check was requested does not answer it.
func TestMaster_SecondLivenessCheckPingsAgain(t *testing.T) {
	server := sshd.Start(t)
	svc := newService(server, startBackend(t))
	svc.Connection.Settings["options"] = map[string]string{"ServerAliveInterval": "60"}
	tunnel := openDirect(t, svc)
	before := tunnel.master.conn.RefusalCount() // each ping is a refused channel
	server.Freeze()
	tunnel.CheckConnection()
	tunnel.CheckConnection()
	server.Thaw()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(10 * time.Second)
	for tunnel.master.conn.RefusalCount() < before+2 {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%d pings", tunnel.master.conn.RefusalCount()-before)
		}
	}
}

// A silence that ends, after a VPN's interruption for example, breaks no connection.
func TestMaster_SetAsideKeepsItsConnections(t *testing.T) {
	server := sshd.Start(t)
	svc := newService(server, startBackend(t))
	r := newRun(t)
	old := openTunnel(t, svc, r).(*directTunnel)
	first, second := dialTunnel(t, old), dialTunnel(t, old)
	requireWelcome(t, first)
	requireWelcome(t, second)
	server.Freeze()
	old.CheckConnection()
	checkTransient(t, tunneltest.WaitFailure(t, old), "the ssh server did not answer within 3s")
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	server.Thaw()
	next := openTunnel(t, svc, r).(*directTunnel)
	requireWelcome(t, dialTunnel(t, next))
	if next.master == old.master {
		t.Error("a newcomer uses the master that was set aside")
	}
	for i, conn := range []net.Conn{first, second} {
		if _, err := conn.Write([]byte("welcome ")); err != nil {
			t.Fatal(err)
		}
		requireWelcome(t, conn)
		select {
		case <-old.master.doneCh:
			t.Fatalf("the master has ended with %d connections", 2-i)
		default:
		}
		_ = conn.Close()
	}
	select {
	case <-old.master.doneCh:
	case <-time.After(10 * time.Second):
		t.Error("the master outlives its last connection")
	}
}

// A silent server is noticed although nobody uses it; ssh's own keepalives take longer.
func TestMaster_ServerThatFallsSilentIsNoticedWithoutClients(t *testing.T) {
	server := sshd.Start(t)
	tunnel := openDirect(t, newService(server, startBackend(t)))
	server.Freeze()
	defer server.Thaw()
	checkTransient(t, tunneltest.WaitFailure(t, tunnel), "the ssh server did not answer within 3s")
}

func TestStopChecks_CountOnlyChecksInARow(t *testing.T) {
	var c stopChecks
	for range maxStopChecks - 1 {
		if c.add(true) {
			t.Fatalf("ended after %d checks", c)
		}
	}
	if c.add(false) || c.add(true) {
		t.Error("a process that was continued is ended")
	}
	for range maxStopChecks - 2 {
		c.add(true)
	}
	if !c.add(true) {
		t.Error("a process that stays stopped is not ended")
	}
}

// Connections of an ssh that is suspended go on when it is continued.
func TestMaster_SuspendedProcessKeepsItsConnections(t *testing.T) {
	server := sshd.Start(t)
	tunnel := openDirect(t, newService(server, startBackend(t)))
	conn := dialTunnel(t, tunnel)
	requireWelcome(t, conn)
	pid := tunnel.master.child.Pid()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	checkTransient(t, tunneltest.WaitFailure(t, tunnel), "the ssh process is suspended (SIGSTOP)")
	if err := tunnel.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("welcome ")); err != nil {
		t.Fatal(err)
	}
	requireWelcome(t, conn)
}

// Another login would need the user.
func TestMaster_ThatAskedForALoginIsNotSetAside(t *testing.T) {
	server := sshd.Start(t)
	tunnel := openDirect(t, newService(server, startBackend(t)))
	tunnel.master.askSocket = "asked"
	server.Freeze()
	if err := tunnel.master.verifyLiveness(t.Context()); !errors.Is(err, errUnresponsive) {
		t.Errorf("got %v", err)
	}
	waitFailureChange(t, tunnel, func(f *forwarder.Failure) bool {
		return f != nil && f.Reason == "the ssh server did not answer within 3s"
	})
	server.Thaw()
	requireWelcome(t, dialTunnel(t, tunnel))
	waitFailureChange(t, tunnel, func(f *forwarder.Failure) bool { return f == nil })
}

// waitFailureChange waits until the failure that a tunnel reports is as wanted.
func waitFailureChange(t *testing.T, tunnel forwarder.FailureReporter, isWanted func(*forwarder.Failure) bool) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		select {
		case <-tunnel.FailureChanged():
		case <-limit:
			t.Fatalf("the tunnel reports %+v", tunnel.CurrentFailure())
		}
		if isWanted(tunnel.CurrentFailure()) {
			return
		}
	}
}
