package socketcall

import (
	"errors"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Receive reads from a socket: syscall.EAGAIN if it has nothing to read.
func Receive(fd uintptr, buf []byte) (int, error) {
	return transfer(unix.SYS_RECVFROM, fd, buf, unix.MSG_DONTWAIT)
}

// Send writes to a socket: syscall.EAGAIN if it takes nothing.
func Send(fd uintptr, buf []byte) (int, error) {
	return transfer(unix.SYS_SENDTO, fd, buf, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

func transfer(call, fd uintptr, buf []byte, flags uintptr) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), flags, 0, 0)
		if errno == 0 {
			return int(n), nil
		}
		if !errors.Is(errno, syscall.EINTR) {
			return 0, errno
		}
	}
}

// ShutdownWrite closes a socket's sending side.
func ShutdownWrite(fd uintptr) { _, _, _ = syscall.RawSyscall(unix.SYS_SHUTDOWN, fd, unix.SHUT_WR, 0) }

// TakeError returns the pending error of a socket and clears it; 0: none. err is why it is not known.
func TakeError(fd uintptr) (pending syscall.Errno, err error) {
	var value int32
	err = getOption(fd, unix.SOL_SOCKET, unix.SO_ERROR, unsafe.Pointer(&value), unsafe.Sizeof(value))
	return syscall.Errno(value), err
}

// TCPInfo returns what the kernel tells of a TCP connection or listener.
func TCPInfo(fd uintptr) (*unix.TCPInfo, error) {
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
