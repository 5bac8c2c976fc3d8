package cluster

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// reservation keeps a port of 127.0.0.1 from everybody who does not share it. Without it, while the API server is down,
// another process might get its port, or a client that tries to connect might be connected to itself.
type reservation struct {
	socket int
	port   int
}

func reserve() (*reservation, error) {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	unix.CloseOnExec(socket)
	r := &reservation{socket: socket}
	if err := r.bind(); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// bind takes a port and does not listen on it: whoever connects is refused.
func (r *reservation) bind() error {
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

// close gives the port back. It may be called more than once.
func (r *reservation) close() error {
	if r.socket < 0 {
		return nil
	}
	socket := r.socket
	r.socket = -1
	return os.NewSyscallError("close", unix.Close(socket))
}
