package tcp

import (
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// connectLoopback starts to connect a non-blocking socket, before package net does. On loopback the server's kernel has accepted when the
// call returns, although it returns EINPROGRESS: the answer is handled when connect releases the socket's lock. The call of package net
// then returns success at once, where it would otherwise wait for the poller. Whatever else comes of this call, the next one returns it too.
func connectLoopback(socket syscall.RawConn, addr netip.AddrPort) error {
	return socket.Control(func(fd uintptr) { _ = unix.Connect(int(fd), sockaddr(addr)) })
}

// sockaddr returns addr for a socket of its own family.
func sockaddr(addr netip.AddrPort) unix.Sockaddr {
	if addr.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
}
