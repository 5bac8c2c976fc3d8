package relay

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
)

var (
	loopback4 = netip.MustParseAddr("127.0.0.1")
	loopback6 = netip.IPv6Loopback()
)

func both(port uint16) []netip.AddrPort {
	return []netip.AddrPort{netip.AddrPortFrom(loopback4, port), netip.AddrPortFrom(loopback6, port)}
}

// hasIPv6 is whether this machine has an IPv6 loopback.
func hasIPv6() bool {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		return false
	}
	l.Close()
	return true
}

func TestBothLoopbacksAreBoundOrNone(t *testing.T) {
	if !hasIPv6() {
		t.Skip("no IPv6 on this machine")
	}
	for _, taken := range []netip.Addr{loopback4, loopback6} {
		other, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(taken, 0)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = other.Close() })
		addrs := both(uint16(other.Addr().(*net.TCPAddr).Port))

		_, err = Bind(addrs)
		if e, ok := errors.AsType[*TakenError](err); !ok || e.Addr != netip.AddrPortFrom(taken, addrs[0].Port()) {
			t.Fatalf("got %v, want that %s is taken", err, taken)
		}
		_ = other.Close()
		ls, err := Bind(addrs)
		if err != nil {
			t.Fatalf("the other one was kept: %v", err)
		}
		if !slices.Equal(ls.Addrs(), addrs) {
			t.Errorf("got %v, want %v", ls.Addrs(), addrs)
		}
		ls.Close()
	}
}

func TestOnlyAMissingIPv6IsFine(t *testing.T) {
	at4, at6 := both(1)[0], both(1)[1]
	for _, row := range []struct {
		addr netip.AddrPort
		err  error
		want bool
	}{
		{at6, syscall.EADDRNOTAVAIL, true},
		{at6, syscall.EAFNOSUPPORT, true},
		{at6, syscall.EADDRINUSE, false},
		{at6, syscall.EACCES, false},
		{at4, syscall.EADDRNOTAVAIL, false},
	} {
		if got := missing(row.addr, row.err); got != row.want {
			t.Errorf("%s, %v: got %v", row.addr, row.err, got)
		}
	}
}

func TestAnAddressThatIsNotOursIsNamed(t *testing.T) {
	_, err := Bind([]netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:8080")})
	if !errors.Is(err, syscall.EADDRNOTAVAIL) || err.Error() != "listen on 192.0.2.1:8080: cannot assign requested address" {
		t.Errorf("got %v", err)
	}
}

func TestListenersPassToAnotherRelayAndNobodyIsRefused(t *testing.T) {
	first := begin(t)
	files, err := first.listeners.Files()
	if err != nil {
		t.Fatal(err)
	}
	_ = files[0].Fd() // as handing it to a child does; the socket must stay what it is
	first.StopAccepting()
	client := first.dial() // queues up

	ls, err := FromFiles(files)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		file.Close()
	}
	if ls.Addrs()[0].String() != first.addr {
		t.Errorf("got %v, want %s", ls.Addrs(), first.addr)
	}
	second, tn := New(ls, Options{}), openTunnel(t, "tcp")
	t.Cleanup(func() { _ = second.Close() })
	second.Attach(tn)
	echo(client, tn.next(t))
}
