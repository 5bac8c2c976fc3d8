//go:build !linux

package relay

import "syscall"

// receiveNow reads from a non-blocking socket: syscall.EAGAIN if it has nothing to read.
func receiveNow(fd uintptr, buf []byte) (int, error) { return syscall.Read(int(fd), buf) }

// sendNow writes to a non-blocking socket: syscall.EAGAIN if it takes nothing.
func sendNow(fd uintptr, buf []byte) (int, error) { return syscall.Write(int(fd), buf) }

// shutdownWrite closes a socket's sending side.
func shutdownWrite(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_WR) }

// takeSocketError returns the pending error of a socket and clears it; 0: none. err is why it is not known.
func takeSocketError(fd uintptr) (pending syscall.Errno, err error) {
	value, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR)
	return syscall.Errno(value), err
}
