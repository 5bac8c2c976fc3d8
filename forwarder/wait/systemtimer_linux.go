package wait

import (
	"os"
	"syscall"
	"time"
	"unsafe"
)

// systemTimer is a timerfd(2), which the runtime's poller waits for as for a socket.
type systemTimer struct {
	file *os.File
	raw  syscall.RawConn
}

// The clock and flags of timerfd_create(2), which package syscall does not have.
const (
	clockMonotonic = 1
	timerFlags     = syscall.O_CLOEXEC | syscall.O_NONBLOCK
)

func (t *systemTimer) open() error {
	fd, _, errno := syscall.Syscall(syscall.SYS_TIMERFD_CREATE, clockMonotonic, timerFlags, 0)
	if errno != 0 {
		return os.NewSyscallError("timerfd_create", errno)
	}
	t.file = os.NewFile(fd, "timerfd")
	var err error
	t.raw, err = t.file.SyscallConn()
	return err
}

func (t *systemTimer) close() { t.file.Close() }

// read calls onExpiry each time the timer has expired, until close.
func (t *systemTimer) read(onExpiry func()) {
	buf := make([]byte, 8)
	for {
		if _, err := t.file.Read(buf); err != nil {
			return
		}
		onExpiry()
	}
}

// set has the timer expire after a delay. It cannot fail: the timer is open and the time is valid.
func (t *systemTimer) set(delay time.Duration) {
	value := struct{ interval, value syscall.Timespec }{value: syscall.NsecToTimespec(int64(delay))}
	_ = t.raw.Control(func(fd uintptr) {
		_, _, _ = syscall.Syscall6(syscall.SYS_TIMERFD_SETTIME, fd, 0, uintptr(unsafe.Pointer(&value)), 0, 0, 0)
	})
}
