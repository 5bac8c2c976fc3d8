package holder

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"
)

func TestConnections_NameTheClientsProcess(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ network, addr string }{{"tcp4", "127.0.0.1:0"}, {"tcp6", "[::1]:0"}} {
		server := listen(t, tt.network, tt.addr)
		if got := find(t)([]netip.AddrPort{server}); len(got) != 0 {
			t.Errorf("%s: without a client, got %+v", tt.addr, got)
		}
		conn, err := net.Dial(tt.network, server.String())
		if err != nil {
			t.Fatal(err)
		}
		client := conn.LocalAddr().(*net.TCPAddr).AddrPort()
		got := find(t)([]netip.AddrPort{server})
		conn.Close()
		if len(got) != 1 || got[0].Client != client || got[0].Server != server || got[0].Holder.PID != os.Getpid() || got[0].Holder.Name == "" {
			t.Errorf("got %+v; want a connection from %s of pid %d", got, client, os.Getpid())
		}
	}
}

// find returns the function of this system, and checks that lsof finds the same connections.
func find(t *testing.T) func([]netip.AddrPort) []Connection {
	return func(addrs []netip.AddrPort) []Connection {
		found := Connections(addrs)
		if _, err := exec.LookPath("lsof"); err != nil || runtime.GOOS != "linux" {
			return found
		}
		withLsof := connectionsWithLsof(addrs)
		if len(withLsof) != len(found) || len(found) > 0 && (withLsof[0].Client != found[0].Client || withLsof[0].Holder.PID != found[0].Holder.PID) {
			t.Errorf("lsof finds %+v, not %+v", withLsof, found)
		}
		return found
	}
}

func TestParseLsofConnections_KeepsClientsOnly(t *testing.T) {
	t.Parallel()
	server := netip.MustParseAddrPort("127.0.0.1:5432")
	const out = "p10\ncpsql\nu501\nf3\nn127.0.0.1:40000->127.0.0.1:5432\np11\ncpsql\nu501\nf3\nn127.0.0.1:40000->127.0.0.1:5432\n" +
		"p12\nclocalport\nu501\nf9\nn127.0.0.1:5432->127.0.0.1:40000\nf10\nn127.0.0.1:5432\n"
	got := parseLsofConnections(out, []netip.AddrPort{server})
	want := Connection{Client: netip.MustParseAddrPort("127.0.0.1:40000"), Server: server, Holder: Holder{PID: 10, Name: "psql", UID: 501}}
	if len(got) != 1 || got[0] != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
