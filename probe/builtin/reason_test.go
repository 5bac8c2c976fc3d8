package builtin

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/probetest"
	"github.com/localport-sh/localport/testdata/tcpserver"
)

// localDialer is a dialer to a server through a tunnel, whose service has a local address.
type localDialer struct {
	probetest.Dialer
	local string
}

func (l localDialer) LocalAddr() netip.AddrPort { return netip.MustParseAddrPort(l.local) }

// startResettingServer starts a server that resets every connection once it has received something.
func startResettingServer(t *testing.T) string {
	t.Helper()
	return tcpserver.Start(t, func(conn *net.TCPConn) {
		_ = conn.SetReadDeadline(time.Now().Add(time.Second)) // the check of type tcp sends nothing
		_, _ = conn.Read(make([]byte, 1))
		_ = conn.SetLinger(0)
	}).String()
}

// TestTypes_ExplainALostConnectionOnOneLine is about every check: what it says of a connection that ends is one line, and names no
// address but the service's. Those of the tunnel's ends, or a placeholder for them, help nobody.
func TestTypes_ExplainALostConnectionOnOneLine(t *testing.T) {
	const local = "127.0.0.1:15432"
	for server, addr := range map[string]string{
		"closes": probetest.StartClosingServer(t), "resets": startResettingServer(t), "says something else": probetest.StartGreetingServer(t, "\x00\x00\n\n\n\x05hello\n"),
	} {
		_, port, _ := net.SplitHostPort(addr)
		for _, kind := range types {
			if kind.Name == "command" {
				continue // it says what the command printed
			}
			settings := project.Settings{}
			if kind.Name == "postgres" {
				settings["user"] = "app"
			}
			err := probetest.CheckThrough(t, kind, localDialer{probetest.Dialer{To: addr}, local}, settings, 2*time.Second)
			if err == nil {
				continue
			}
			reason := probe.Reason(err)
			for _, unwanted := range []string{"\n", "->", "(localhost)", "127.0.0.1:5432", port} {
				if strings.Contains(reason, unwanted) {
					t.Errorf("%s, a server that %s: %q contains %q", kind.Name, server, reason, unwanted)
				}
			}
			if kind.Name == "postgres" && server != "says something else" && !strings.HasPrefix(reason, local+": ") {
				t.Errorf("a server that %s: %q does not begin with the service's address", server, reason)
			}
		}
	}
}
