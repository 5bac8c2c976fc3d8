package netmon

import (
	"os"

	"golang.org/x/sys/unix"
)

// eventSource is a routing socket (route(4)).
type eventSource struct{ file *os.File }

func openSource() (*eventSource, error) {
	fd, err := unix.Socket(unix.AF_ROUTE, unix.SOCK_RAW, unix.AF_UNSPEC)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	return &eventSource{os.NewFile(uintptr(fd), "route")}, nil
}

func (s *eventSource) close() error { return s.file.Close() }

// readEvents calls onChange for every interface or address that is added, removed or changed, until the socket is closed. The
// kernel does not report unchanged ones; routes follow addresses.
func (s *eventSource) readEvents(onChange func()) error {
	const typeOffset = 3 // of rtm_type in every message (route(4))
	buf := make([]byte, 4<<10)
	for {
		n, err := s.file.Read(buf)
		if err != nil {
			return err
		}
		if n <= typeOffset {
			continue
		}
		switch buf[typeOffset] {
		case unix.RTM_IFINFO, unix.RTM_NEWADDR, unix.RTM_DELADDR:
			onChange()
		}
	}
}
