package relay

import (
	"cmp"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// keepaliveOptions are those that package net sets on a connection: a probe after 15 s without traffic, then each 15 s; after nine without an
// answer the connection is reset.
var keepaliveOptions = []struct{ level, name, value int }{
	{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
	{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
	{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15},
	{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9},
}

// listenConfig makes listeners whose accepted connections send keepalives. They inherit the listener's options (tcp_create_openreq_child in
// net/ipv4/tcp_minisocks.c copies its socket), so that package net need not set four options on each connection.
func listenConfig() net.ListenConfig {
	return net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, socket syscall.RawConn) (err error) {
		controlErr := socket.Control(func(fd uintptr) {
			for _, option := range keepaliveOptions {
				if err == nil {
					err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), option.level, option.name, option.value))
				}
			}
		})
		return cmp.Or(controlErr, err)
	}}
}
