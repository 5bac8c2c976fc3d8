package tcp

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openSocket returns a non-blocking TCP socket.
func openSocket(t *testing.T, family int) (fd int) {
	t.Helper()
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func TestConnectLoopback_HasConnectedWhenItReturns(t *testing.T) {
	for family, host := range map[int]string{unix.AF_INET: "127.0.0.1", unix.AF_INET6: "::1"} {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addr := l.Addr().(*net.TCPAddr).AddrPort()
		fd := openSocket(t, family)
		_ = unix.Connect(fd, sockaddr(addr))
		if _, err := unix.Getpeername(fd); err != nil {
			t.Errorf("%s: not connected: %v", addr, err)
		}
		if err := unix.Connect(fd, sockaddr(addr)); err != nil {
			t.Errorf("%s: the second connect returned %v", addr, err)
		}
		conn, err := openTunnel(t, host, strconv.Itoa(int(addr.Port()))).Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if got := conn.RemoteAddr().(*net.TCPAddr).AddrPort(); got != addr {
			t.Errorf("connected to %s, want %s", got, addr)
		}
		_ = l.Close()
		_, err = openTunnel(t, host, strconv.Itoa(int(addr.Port()))).Dial(t.Context())
		if got, want := requireRefusal(t, err).Reason, addr.String()+": connection refused"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// A kernel drops what asks for a connection while the server's queue is full.
func TestConnectLoopback_WaitsForServerWhoseQueueIsFull(t *testing.T) {
	server := openSocket(t, unix.AF_INET)
	if err := unix.Bind(server, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(server, 0); err != nil {
		t.Fatal(err)
	}
	bound, err := unix.Getsockname(server)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(bound.(*unix.SockaddrInet4).Port))
	first, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	tunnel := openTunnel(t, "127.0.0.1", strconv.Itoa(int(addr.Port())))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = tunnel.Dial(ctx)
	if got, want := requireRefusal(t, err).Reason, addr.String()+": timed out"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	// The kernel asks again after a second.
	type result struct {
		conn net.Conn
		err  error
	}
	resultCh := make(chan result, 1)
	go func() {
		conn, err := tunnel.Dial(t.Context())
		resultCh <- result{conn, err}
	}()
	fd, _, err := unix.Accept4(server, unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	dialed := <-resultCh
	if dialed.err != nil {
		t.Fatal(dialed.err)
	}
	dialed.conn.Close()
}
