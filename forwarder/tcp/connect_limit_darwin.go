package tcp

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// limitConnectTime makes an unanswered connect fail after 4 s (tcp(4)). By default the kernel retries for more than a minute with
// growing delays, so that a waiting client would notice late that the network is back. The relay retries each second, and status
// shows the reason meanwhile.
func limitConnectTime(socket syscall.RawConn) error {
	var optionErr error
	err := socket.Control(func(fd uintptr) {
		optionErr = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CONNECTIONTIMEOUT, 4))
	})
	if err != nil {
		return err
	}
	return optionErr
}
