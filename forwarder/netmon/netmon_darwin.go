package netmon

import (
	"os"

	"golang.org/x/sys/unix"
)

// source is a routing socket.
type source struct{ file *os.File }

func open() (*source, error) {
	fd, err := unix.Socket(unix.AF_ROUTE, unix.SOCK_RAW, unix.AF_UNSPEC)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	return &source{os.NewFile(uintptr(fd), "route")}, nil
}

func (s *source) close() error { return s.file.Close() }

// read calls changed for every interface and address that comes, goes or changes, until the socket is closed. The kernel
// says nothing of those that stay as they are; routes follow them.
func (s *source) read(changed func()) error {
	const kind = 3 // where every message has its type (route(4))
	buf := make([]byte, 4<<10)
	for {
		n, err := s.file.Read(buf)
		if err != nil {
			return err
		}
		if n <= kind {
			continue
		}
		switch buf[kind] {
		case unix.RTM_IFINFO, unix.RTM_NEWADDR, unix.RTM_DELADDR:
			changed()
		}
	}
}
