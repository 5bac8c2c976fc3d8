package holder

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/testdata/ports"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listen listens on an address, and returns the address that a client on this machine connects to.
func listen(t *testing.T, network, addr string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Skipf("cannot listen on %s %s here: %v", network, addr, err)
	}
	t.Cleanup(func() { _ = l.Close() })
	addrPort := l.Addr().(*net.TCPAddr).AddrPort()
	switch host := addrPort.Addr().Unmap(); {
	case !host.IsUnspecified():
		return addrPort
	case network == "tcp4" || network == "tcp":
		return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), addrPort.Port())
	}
	return netip.AddrPortFrom(netip.IPv6Loopback(), addrPort.Port())
}

func ownProcessName(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(self)
}

func TestFind_ReturnsPIDAndName(t *testing.T) {
	for _, tt := range []struct{ network, addr string }{
		{"tcp4", "127.0.0.1:0"},
		{"tcp4", "127.0.0.2:0"},
		{"tcp6", "[::1]:0"},
		{"tcp4", "0.0.0.0:0"},
		{"tcp6", "[::]:0"},
		{"tcp", ":0"}, // both, by one socket
	} {
		t.Run(tt.addr, func(t *testing.T) {
			got, ok := Find(listen(t, tt.network, tt.addr))
			if !ok || got.PID != os.Getpid() || got.UID != os.Getuid() {
				t.Fatalf("got %+v, %v; want pid %d, uid %d", got, ok, os.Getpid(), os.Getuid())
			}
			if got.Name == "" || !strings.HasPrefix(ownProcessName(t), got.Name) {
				t.Errorf("name %q, want the start of %q", got.Name, ownProcessName(t))
			}
		})
	}
}

func TestFind_IgnoresOtherAddressesOfThePort(t *testing.T) {
	addr := listen(t, "tcp4", "127.0.0.1:0")
	for _, other := range []string{"127.0.0.2", "::1"} {
		if got, ok := Find(netip.AddrPortFrom(netip.MustParseAddr(other), addr.Port())); ok {
			t.Errorf("%s: got %+v", other, got)
		}
	}
}

func TestFind_FreePortHasNoHolder(t *testing.T) {
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(ports.FreePort(t)))
	if got, ok := Find(addr); ok {
		t.Errorf("got %+v", got)
	}
}

func TestFindAmong_FindsOneOfTheProcesses(t *testing.T) {
	addr := listen(t, "tcp4", "127.0.0.1:0")
	self, parent := os.Getpid(), os.Getppid()
	if pid, ok := FindAmong(addr, []int{parent, self}); !ok || pid != self {
		t.Errorf("got %d, %v; want %d", pid, ok, self)
	}
	if pid, ok := FindAmong(addr, []int{parent}); ok {
		t.Errorf("without the process: got %d", pid)
	}
	if pid, ok := FindAmong(netip.AddrPortFrom(addr.Addr(), uint16(ports.FreePort(t))), []int{self}); ok {
		t.Errorf("a free port: got %d", pid)
	}
}

func TestFindWithLsof_ReturnsTheSameHolder(t *testing.T) {
	if _, err := exec.LookPath("lsof"); err != nil {
		t.Skip("lsof is missing")
	}
	for _, tt := range []struct{ network, addr string }{
		{"tcp4", "127.0.0.1:0"}, {"tcp6", "[::1]:0"}, {"tcp4", "0.0.0.0:0"},
	} {
		addr := listen(t, tt.network, tt.addr)
		if got, ok := findWithLsof(addr); !ok || got.PID != os.Getpid() || got.UID != os.Getuid() || got.Name == "" {
			t.Errorf("%s: got %+v, %v", addr, got, ok)
		}
	}
	addr := listen(t, "tcp4", "127.0.0.1:0")
	if got, ok := findWithLsof(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), addr.Port())); ok {
		t.Errorf("another address: got %+v", got)
	}
}
