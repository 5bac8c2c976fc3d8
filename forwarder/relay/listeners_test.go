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

func bothLoopbacks(port uint16) []netip.AddrPort {
	return []netip.AddrPort{netip.AddrPortFrom(loopback4, port), netip.AddrPortFrom(loopback6, port)}
}

// hasIPv6 reports whether this machine has an IPv6 loopback.
func hasIPv6() bool {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		return false
	}
	l.Close()
	return true
}

func TestBindListeners_ListensOnBothLoopbacksOrNone(t *testing.T) {
	if !hasIPv6() {
		t.Skip("no IPv6 on this machine")
	}
	for _, usedAddr := range []netip.Addr{loopback4, loopback6} {
		other, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(usedAddr, 0)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = other.Close() })
		addrs := bothLoopbacks(uint16(other.Addr().(*net.TCPAddr).Port))

		_, err = BindListeners(addrs)
		if e, ok := errors.AsType[*AddrInUseError](err); !ok || e.Addr != netip.AddrPortFrom(usedAddr, addrs[0].Port()) {
			t.Fatalf("got %v, want that %s is in use", err, usedAddr)
		}
		_ = other.Close()
		ls, err := BindListeners(addrs)
		if err != nil {
			t.Fatalf("the other address stayed bound: %v", err)
		}
		if !slices.Equal(ls.Addrs(), addrs) {
			t.Errorf("got %v, want %v", ls.Addrs(), addrs)
		}
		ls.Close()
	}
}

func TestIsIPv6Unavailable_OnlyForErrorsOfMissingIPv6(t *testing.T) {
	at4, at6 := bothLoopbacks(1)[0], bothLoopbacks(1)[1]
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
		if got := isIPv6Unavailable(row.addr, row.err); got != row.want {
			t.Errorf("%s, %v: got %v", row.addr, row.err, got)
		}
	}
}

func TestBindListeners_ErrorNamesForeignAddress(t *testing.T) {
	_, err := BindListeners([]netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:8080")})
	if !errors.Is(err, syscall.EADDRNOTAVAIL) || err.Error() != "listen on 192.0.2.1:8080: cannot assign requested address" {
		t.Errorf("got %v", err)
	}
}

func TestInheritListeners_AcceptsClientsQueuedDuringHandover(t *testing.T) {
	first := startRelay(t)
	files, err := first.listeners.Files()
	if err != nil {
		t.Fatal(err)
	}
	_ = files[0].Fd() // as os/exec calls it; the socket must stay non-blocking
	first.StopAccepting()
	client := first.dialClient() // waits in the kernel's queue

	ls, err := InheritListeners(files)
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
	pingPong(client, tn.nextConn(t))
}

func TestRelay_AcceptsOnAddedListenersUntilTheyAreRemoved(t *testing.T) {
	r, tn := startRelay(t), openTunnel(t, "tcp")
	r.Attach(tn)
	add := func() (*Listeners, string, bool) {
		t.Helper()
		ls, err := BindListeners([]netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), 0)})
		if err != nil {
			t.Fatal(err)
		}
		addr := ls.Addrs()[0].String()
		return ls, addr, r.AddListeners(ls)
	}
	isOpen := func(addr string) bool {
		conn, err := dialTCP(addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}
	first, addr, isAdded := add()
	if !isAdded {
		t.Fatal("not added")
	}
	conn, err := dialTCP(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	setTestDeadline(t, conn)
	client, server := &testConn{conn, t}, tn.nextConn(t)
	pingPong(client, server)
	r.RemoveListeners(first)
	if isOpen(addr) {
		t.Error("the removed listener accepts connections")
	}
	pingPong(client, server)
	pingPong(r.dialClient(), tn.nextConn(t))

	_, addr, _ = add()
	r.StopAccepting()
	if isOpen(addr) {
		t.Error("after StopAccepting, the added listener accepts connections")
	}
	if _, addr, isAdded = add(); isAdded || isOpen(addr) {
		t.Error("a listener was added after StopAccepting")
	}
}
