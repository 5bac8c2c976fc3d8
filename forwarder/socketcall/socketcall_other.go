//go:build !linux

package socketcall

import (
	"errors"
	"syscall"
)

// Receive reads from a non-blocking socket: syscall.EAGAIN if it has nothing to read.
func Receive(fd uintptr, buf []byte) (int, error) { return transfer(syscall.Read, fd, buf) }

// Send writes to a non-blocking socket: syscall.EAGAIN if it takes nothing.
func Send(fd uintptr, buf []byte) (int, error) { return transfer(syscall.Write, fd, buf) }

func transfer(call func(int, []byte) (int, error), fd uintptr, buf []byte) (int, error) {
	for {
		n, err := call(int(fd), buf)
		if !errors.Is(err, syscall.EINTR) {
			return max(0, n), err
		}
	}
}

// ShutdownWrite closes a socket's sending side.
func ShutdownWrite(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_WR) }

// TakeError returns the pending error of a socket and clears it; 0: none. err is why it is not known.
func TakeError(fd uintptr) (pending syscall.Errno, err error) {
	value, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR)
	return syscall.Errno(value), err
}
