package ssh

import (
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/localport-sh/localport/testdata/sshd"
)

func TestSOCKSTunnel_ConnectsAnywhereAndReportsRefusal(t *testing.T) {
	server := sshd.Start(t)
	svc := newService(server, startBackend(t))
	addr := netip.MustParseAddrPort(net.JoinHostPort(svc.Connection.Settings.Text("remote_host"), svc.RemotePort))
	svc.RemotePort, svc.Connection.Settings["remote_host"], svc.Connection.Settings["socks"] = "", "", true
	tunnel := openTunnel(t, svc, newRun(t))
	requestConnect := func(to netip.AddrPort) (net.Conn, byte) {
		conn, err := tunnel.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		ip := to.Addr().As4()
		go func() {
			_, _ = conn.Write(append([]byte{5, 1, 0, 5, 1, 0, 1}, ip[0], ip[1], ip[2], ip[3], byte(to.Port()>>8), byte(to.Port())))
		}()
		var answer [12]byte
		if _, err := io.ReadFull(conn, answer[:]); err != nil {
			t.Fatal(err)
		}
		return conn, answer[3]
	}
	conn, reply := requestConnect(addr)
	if reply != 0 {
		t.Fatalf("refused: %d", reply)
	}
	requireWelcome(t, conn)
	if _, reply := requestConnect(netip.MustParseAddrPort(unusedAddr(t))); reply != 5 {
		t.Errorf("reply for an unused port: %d", reply)
	}
}
