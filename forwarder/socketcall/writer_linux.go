package socketcall

import (
	"errors"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxParts is how many slices one system call writes.
const maxParts = 64

// Writer writes to a connection, and waits by Go's poller. Its methods may not be called concurrently.
type Writer struct {
	conn      net.Conn
	rawConn   syscall.RawConn // nil: not a socket
	writeFunc func(fd uintptr) bool
	unsent    net.Buffers // of WriteBuffers
	parts     [maxParts]unix.Iovec
	err       error
}

// NewWriter returns a writer to a connection, which need not be a socket.
func NewWriter(conn net.Conn) *Writer {
	w := &Writer{conn: conn}
	if socket, ok := conn.(syscall.Conn); ok {
		if rawConn, err := socket.SyscallConn(); err == nil {
			w.rawConn, w.writeFunc = rawConn, w.sendUnsent
		}
	}
	return w
}

// WriteBuffers writes all bytes of buffers, which it changes. After an error some may have been written.
func (w *Writer) WriteBuffers(buffers net.Buffers) error {
	if w.rawConn == nil {
		_, err := buffers.WriteTo(w.conn)
		return err
	}
	w.unsent, w.err = buffers, nil
	err := w.rawConn.Write(w.writeFunc)
	w.unsent = nil
	if err != nil {
		return err
	}
	return w.err
}

// sendUnsent has the form that syscall.RawConn.Write takes: false means to wait until the socket is writable.
func (w *Writer) sendUnsent(fd uintptr) bool {
	for {
		n := w.fillParts()
		if n == 0 {
			return true
		}
		sent, err := sendParts(fd, w.parts[:n])
		clear(w.parts[:n])
		if errors.Is(err, syscall.EAGAIN) {
			return false
		}
		if w.err = err; err != nil {
			return true
		}
		w.skipSent(sent)
	}
}

// fillParts describes the slices that are to be written next and returns their number. Empty ones are left out.
func (w *Writer) fillParts() (n int) {
	for _, b := range w.unsent {
		if len(b) == 0 {
			continue
		}
		if n == maxParts {
			break
		}
		w.parts[n].Base = unsafe.SliceData(b)
		w.parts[n].SetLen(len(b))
		n++
	}
	return n
}

// skipSent removes the first n bytes of what is to be written.
func (w *Writer) skipSent(n int) {
	for len(w.unsent) > 0 && n >= len(w.unsent[0]) {
		n -= len(w.unsent[0])
		w.unsent = w.unsent[1:]
	}
	if n > 0 {
		w.unsent[0] = w.unsent[0][n:]
	}
}

func sendParts(fd uintptr, parts []unix.Iovec) (int, error) {
	header := unix.Msghdr{Iov: unsafe.SliceData(parts)}
	header.SetIovlen(len(parts))
	for {
		n, _, errno := syscall.RawSyscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&header)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if errno == 0 {
			return int(n), nil
		}
		if !errors.Is(errno, syscall.EINTR) {
			return 0, errno
		}
	}
}
