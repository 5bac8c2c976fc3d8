package ssh

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/localport-sh/localport/testdata/sshd"
	"github.com/localport-sh/localport/testdata/syncbuf"
)

func TestDirectTunnel_CarriesBytesAndHalfCloses(t *testing.T) {
	tunnel := openDirect(t, newService(sshd.Start(t), startBackend(t)))
	for range 3 {
		conn := dialTunnel(t, tunnel)
		if _, err := conn.Write([]byte("back")); err != nil {
			t.Fatal(err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); err != nil || string(got) != "welcome back" {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if log := tunnel.master.runConfig.Log.(*syncbuf.Buffer).String(); strings.Contains(log, "debug1") {
		t.Errorf("the log has debug lines:\n%s", log)
	}
	if err := tunnel.Close(); err != nil || tunnel.Err() != nil {
		t.Errorf("close: %v, %v", err, tunnel.Err())
	}
	if _, err := tunnel.Dial(t.Context()); err == nil {
		t.Error("dialed after close")
	}
}

func TestDirectTunnel_RemoteHostDefaultsToLocalhost(t *testing.T) {
	svc := newService(sshd.Start(t), startBackend(t))
	svc.Connection.Settings["remote_host"] = ""
	requireWelcome(t, dialTunnel(t, openDirect(t, svc)))
}

func TestDirectTunnel_ConnectsToIPv6(t *testing.T) {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skipf("IPv6 is missing: %v", err)
	}
	defer l.Close()
	tunnel := openDirect(t, newService(sshd.Start(t), l.Addr().String()))
	conn := dialTunnel(t, tunnel)
	remoteConn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer remoteConn.Close()
	if _, err := remoteConn.Write([]byte("welcome ")); err != nil {
		t.Fatal(err)
	}
	requireWelcome(t, conn)
}

func TestDirectTunnel_RefusalAffectsOneConnection(t *testing.T) {
	// A server that stops listening after one connection, so that later ones are refused while the first goes on.
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tunnel := openDirect(t, newService(sshd.Start(t), l.Addr().String()))
	first := dialTunnel(t, tunnel)
	remoteConn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer remoteConn.Close()
	_ = l.Close()
	for range 5 {
		if r := dialRefused(t, tunnel); !r.IsConnectFailure || r.IsFinal || r.Reason != "127.0.0.1 cannot connect to "+l.Addr().String()+": Connection refused" {
			t.Errorf("refusal %+v", r)
		}
	}
	if _, err := remoteConn.Write([]byte("welcome ")); err != nil {
		t.Fatal(err)
	}
	requireWelcome(t, first)
	select {
	case <-tunnel.Done():
		t.Error("the refusals ended the tunnel")
	default:
	}
}

func TestDirectTunnel_EveryRefusalIsAFailedConnect(t *testing.T) {
	server := sshd.Start(t)
	unused, forbidden := unusedAddr(t), startBackend(t)
	for _, tt := range []struct {
		server             *sshd.Server
		addr, reason, hint string
		isFinal            bool
	}{
		{server, unused, "127.0.0.1 cannot connect to " + unused + ": Connection refused", "", false},
		{server, "no-such-host.invalid:80", "127.0.0.1 cannot resolve no-such-host.invalid: ", "resolved on 127.0.0.1, not on this machine", false},
		{server.StartAnother("AllowTcpForwarding no"), forbidden, "127.0.0.1 does not allow connections to " + forbidden + " (administratively prohibited)", "AllowTcpForwarding", true},
		{server.StartAnother("PermitOpen 127.0.0.1:1"), forbidden, "127.0.0.1 does not allow connections to " + forbidden + " (administratively prohibited)", forbidden + " in PermitOpen", true},
	} {
		tunnel := openDirect(t, newService(tt.server, tt.addr))
		r := dialRefused(t, tunnel)
		if !r.IsConnectFailure || r.IsFinal != tt.isFinal || !strings.HasPrefix(r.Reason, tt.reason) || !strings.Contains(r.Hint, tt.hint) {
			t.Errorf("%s: %+v", tt.addr, r)
		}
	}
}

func TestDirectTunnel_CarriesThreeHundredConnections(t *testing.T) {
	tunnel := openDirect(t, newService(sshd.Start(t), startBackend(t)))
	var all sync.WaitGroup
	for range 300 {
		all.Go(func() {
			conn, err := tunnel.Dial(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			got := make([]byte, 8)
			if _, err := io.ReadFull(conn, got); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}
