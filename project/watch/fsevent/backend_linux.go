package fsevent

import (
	"encoding/binary"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// WatchesFiles reports whether a file that is watched reports its own changes. Its directory need not be watched for writes then.
const WatchesFiles = true

// backend is an inotify instance.
type backend struct{ file *os.File }

func (b *backend) open() error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("inotify_init1", err)
	}
	b.file = os.NewFile(uintptr(fd), "inotify")
	return nil
}

func (b *backend) close() { b.file.Close() }

// alwaysReported are the events of Interest 0.
const alwaysReported = unix.IN_ATTRIB | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF

// add does not follow a link at the end of the path: what is watched is what the caller has found there.
func (b *backend) add(path string, interest Interest) error {
	mask := uint32(alwaysReported | unix.IN_DONT_FOLLOW | unix.IN_MASK_ADD)
	for _, part := range []struct {
		interest Interest
		events   uint32
	}{
		{Appearance, unix.IN_CREATE | unix.IN_MOVED_TO},
		{Disappearance, unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO},
		{Content, unix.IN_MODIFY},
	} {
		if interest&part.interest != 0 {
			mask |= part.events
		}
	}
	raw, err := b.file.SyscallConn()
	if err != nil {
		return err
	}
	var addErr error
	err = raw.Control(func(fd uintptr) {
		for {
			if _, addErr = unix.InotifyAddWatch(int(fd), path, mask); !errors.Is(addErr, unix.EINTR) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	return os.NewSyscallError("inotify_add_watch", addErr)
}

// read delivers events until the instance is closed.
func (b *backend) read(s *Source) {
	buf := make([]byte, 4<<10) // for some hundred events; the largest has 272 bytes
	for {
		n, err := b.file.Read(buf)
		if err != nil {
			return
		}
		parseEvents(buf[:n], s.deliver, s.reportLoss)
	}
}

// gone are the events after which what is watched is no longer at its path.
const gone = unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_UNMOUNT | unix.IN_IGNORED

// parseEvents reads the records of inotify(7): the watch's number, the mask, a cookie and the name's length, of 32 bits each, and the name, padded with
// zeros.
func parseEvents(data []byte, onEvent func(Event), onLoss func()) {
	for len(data) >= unix.SizeofInotifyEvent {
		mask, size := binary.NativeEndian.Uint32(data[4:]), int(binary.NativeEndian.Uint32(data[12:]))
		data = data[unix.SizeofInotifyEvent:]
		if size > len(data) {
			return // the kernel writes whole records only
		}
		name := unix.ByteSliceToString(data[:size])
		data = data[size:]
		if mask&unix.IN_Q_OVERFLOW != 0 {
			onLoss()
			continue
		}
		onEvent(Event{Name: name, IsGone: mask&gone != 0, IsMoved: mask&unix.IN_MOVE_SELF != 0})
	}
}
