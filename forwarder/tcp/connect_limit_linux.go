package tcp

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// limitConnectTime makes an unanswered connect fail after about 3 s (tcp(7)). By default the kernel retries for two minutes with
// growing delays, so that a waiting client would notice late that the network is back. The relay retries each second, and status
// shows the reason meanwhile.
func limitConnectTime(socket syscall.RawConn) error {
	var optionErr error
	err := socket.Control(func(fd uintptr) {
		optionErr = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_SYNCNT, 1))
	})
	if err != nil {
		return err
	}
	return optionErr
}
