package cluster

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// portReservation reserves a port of 127.0.0.1: only a program that sets SO_REUSEPORT can listen on it. Without it, while the API server
// is down, another process could get its port, or a client that dials it could be connected to itself.
type portReservation struct {
	socket int
	port   int
}

// reservePort reserves a free port. The caller closes the reservation.
func reservePort() (*portReservation, error) {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	unix.CloseOnExec(socket)
	r := &portReservation{socket: socket}
	if err := r.bind(); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// bind binds the socket to a free port and does not listen on it: connections are refused.
func (r *portReservation) bind() error {
	if err := unix.SetsockoptInt(r.socket, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Bind(r.socket, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	name, err := unix.Getsockname(r.socket)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	r.port = name.(*unix.SockaddrInet4).Port
	return nil
}

// close ends the reservation. It may be called more than once.
func (r *portReservation) close() error {
	if r.socket < 0 {
		return nil
	}
	socket := r.socket
	r.socket = -1
	return os.NewSyscallError("close", unix.Close(socket))
}
