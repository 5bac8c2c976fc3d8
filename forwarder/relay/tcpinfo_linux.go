package relay

import (
	"cmp"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder/socketcall"
)

// connectionAge returns how long ago an accepted connection was established, if nothing was sent on it yet: tcpi_last_data_sent
// starts at the end of the handshake (tcp_create_openreq_child in net/ipv4/tcp_minisocks.c sets lsndtime). It has a
// resolution of one millisecond.
func connectionAge(conn *net.TCPConn) (age time.Duration, known bool) {
	info, err := readTCPInfo(conn)
	if err != nil {
		return 0, false
	}
	return time.Duration(info.Last_data_sent) * time.Millisecond, true
}

// queueLength returns how many connections wait in a listener's accept queue: for a listening socket tcpi_unacked is
// sk_ack_backlog (tcp_get_info in net/ipv4/tcp.c). It returns 0 if the system does not tell.
func queueLength(l *net.TCPListener) int {
	info, err := readTCPInfo(l)
	if err != nil {
		return 0
	}
	return int(info.Unacked)
}

func readTCPInfo(s syscall.Conn) (*unix.TCPInfo, error) {
	rawConn, err := s.SyscallConn()
	if err != nil {
		return nil, err
	}
	return readRawTCPInfo(rawConn)
}

func readRawTCPInfo(rawConn syscall.RawConn) (info *unix.TCPInfo, err error) {
	controlErr := rawConn.Control(func(fd uintptr) {
		info, err = socketcall.TCPInfo(fd)
	})
	return info, cmp.Or(controlErr, err)
}

// isTCPClosed reports whether a TCP connection is in the state CLOSE, as it is after a reset and after both sides were closed: TCP_CLOSE
// in include/net/tcp_states.h.
func isTCPClosed(rawConn syscall.RawConn) bool {
	const tcpClose = 7
	info, err := readRawTCPInfo(rawConn)
	return err == nil && info.State == tcpClose
}
