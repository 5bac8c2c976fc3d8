package tcp

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// impatient has the kernel give a connect up that nobody answers, after 4 s. It would else repeat it ever more rarely, for
// more than a minute, and a client that waits would get nothing for long after the network is back: the relay tries again each
// second, and status says why meanwhile.
func impatient(socket syscall.RawConn) error {
	var refused error
	err := socket.Control(func(fd uintptr) {
		refused = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CONNECTIONTIMEOUT, 4))
	})
	if err != nil {
		return err
	}
	return refused
}
