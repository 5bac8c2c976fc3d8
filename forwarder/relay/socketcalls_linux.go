package relay

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of this file never wait. Unlike those of packages syscall and unix they do not tell Go's scheduler that the thread may block: at
// the first such call after all threads were idle, it wakes its monitor thread, which then sleeps for 20 µs at a time. For a connection
// with little traffic that would be two more context switches for each read and write.

// receiveNow reads from a socket without waiting: syscall.EAGAIN if it has nothing to read.
func receiveNow(fd uintptr, buf []byte) (int, error) {
	return ioResult(syscall.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), unix.MSG_DONTWAIT, 0, 0))
}

// sendNow writes to a socket without waiting: syscall.EAGAIN if it takes nothing.
func sendNow(fd uintptr, buf []byte) (int, error) {
	return ioResult(syscall.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0))
}

func ioResult(n, _ uintptr, errno syscall.Errno) (int, error) {
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// shutdownWrite closes a socket's sending side.
func shutdownWrite(fd uintptr) { _, _, _ = syscall.RawSyscall(unix.SYS_SHUTDOWN, fd, unix.SHUT_WR, 0) }

// takeSocketError returns the pending error of a socket and clears it; 0: none. err is why it is not known.
func takeSocketError(fd uintptr) (pending syscall.Errno, err error) {
	var value int32
	err = getOption(fd, unix.SOL_SOCKET, unix.SO_ERROR, unsafe.Pointer(&value), unsafe.Sizeof(value))
	return syscall.Errno(value), err
}

func getTCPInfo(fd uintptr) (*unix.TCPInfo, error) {
	info := &unix.TCPInfo{}
	err := getOption(fd, unix.IPPROTO_TCP, unix.TCP_INFO, unsafe.Pointer(info), unsafe.Sizeof(*info))
	return info, err
}

// getOption fills in an option's value. An older kernel knows less of a long one and leaves the rest as it is.
func getOption(fd uintptr, level, name int, value unsafe.Pointer, size uintptr) error {
	length := uint32(size)
	if _, _, errno := syscall.RawSyscall6(unix.SYS_GETSOCKOPT, fd, uintptr(level), uintptr(name), uintptr(value), uintptr(unsafe.Pointer(&length)), 0); errno != 0 {
		return errno
	}
	return nil
}
