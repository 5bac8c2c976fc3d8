package relay

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// isTCPClosed reports whether a TCP connection is in the state CLOSED, as it is after a reset and after both sides were closed:
// TCPS_CLOSED in netinet/tcp_fsm.h.
func isTCPClosed(rawConn syscall.RawConn) (isClosed bool) {
	const tcpsClosed = 0
	_ = rawConn.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPConnectionInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_CONNECTION_INFO)
		isClosed = err == nil && info.State == tcpsClosed
	})
	return isClosed
}
