package relay

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stream is a connection that is read without holding anything while there is nothing to read: no buffer, no pipe.
type stream struct {
	conn net.Conn
	raw  syscall.RawConn

	try func(fd uintptr) bool // made once: a closure for each read would be garbage for each read
	got *buffer
	err error
}

// newStream takes a *net.TCPConn or a *net.UnixConn.
func newStream(conn net.Conn) (*stream, error) {
	sys, ok := conn.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("a tunnel's connection is a %T, want one with a descriptor", conn)
	}
	raw, err := sys.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &stream{conn: conn, raw: raw}
	s.try = s.tryRead
	return s, nil
}

// bufferSize is one read's; larger pieces go by splice.
const bufferSize = 32 << 10

// buffer is a piece of a stream on its way.
type buffer struct {
	data [bufferSize]byte
	n    int
}

func (b *buffer) bytes() []byte { return b.data[:b.n] }
func (b *buffer) free()         { buffers.Put(b) }

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// read waits for bytes and returns them; the caller frees the buffer. io.EOF is the other side's end.
func (s *stream) read() (*buffer, error) {
	s.got, s.err = nil, nil
	if err := s.raw.Read(s.try); err != nil {
		return nil, err
	}
	b := s.got
	s.got = nil
	return b, s.err
}

// tryRead reads what is there; false if there is nothing yet.
func (s *stream) tryRead(fd uintptr) bool {
	b := buffers.Get().(*buffer)
	n, err := retry(func() (int, error) { return unix.Read(int(fd), b.data[:]) })
	switch {
	case err == unix.EAGAIN:
		b.free()
		return false
	case err == nil && n > 0:
		b.n = n
		s.got = b
		return true
	case err == nil:
		err = io.EOF
	}
	b.free()
	s.err = err
	return true
}

// peek waits until there is something to read, which it leaves there; nil also for the other side's end.
func (s *stream) peek() error {
	var result error
	one := make([]byte, 1)
	err := s.raw.Read(func(fd uintptr) bool {
		_, err := retry(func() (int, error) {
			n, _, err := unix.Recvfrom(int(fd), one, unix.MSG_PEEK|unix.MSG_DONTWAIT)
			return n, err
		})
		if err == unix.EAGAIN {
			return false
		}
		result = err
		return true
	})
	return errors.Join(err, result)
}

func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// interrupt makes reads that wait end, and later ones fail, until resume.
func (s *stream) interrupt()      { _ = s.conn.SetReadDeadline(time.Unix(1, 0)) }
func (s *stream) interruptWrite() { _ = s.conn.SetWriteDeadline(time.Unix(1, 0)) }
func (s *stream) resume()         { _ = s.conn.SetDeadline(time.Time{}) }

func interrupted(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// closeWrite passes an end on.
func (s *stream) closeWrite() error {
	half, ok := s.conn.(interface{ CloseWrite() error })
	if !ok {
		return nil
	}
	return half.CloseWrite()
}

// reset ends the connection as a reset, where its kind knows resets.
func (s *stream) reset() {
	if tcp, ok := s.conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	s.conn.Close()
}

func (s *stream) close() { s.conn.Close() }

// hungUp reports whether the other side has closed both directions, which a unix socket tells and TCP does not.
func (s *stream) hungUp() bool {
	up := false
	_ = s.raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(fds, 0)
		up = err == nil && n > 0 && fds[0].Revents&unix.POLLHUP != 0
	})
	return up
}

// writeError is an error of the side that is written to.
type writeError struct{ error }

func (e *writeError) Unwrap() error { return e.error }

// transfer copies until from ends, with io.EOF, or something fails, with a *writeError if that was to.
func transfer(to, from *stream, count func(int)) error {
	for {
		b, err := from.read()
		if err != nil {
			return err
		}
		bulk := b.n == bufferSize
		n, err := to.conn.Write(b.bytes())
		count(n)
		b.free()
		if err != nil {
			return &writeError{err}
		}
		if bulk {
			if err := splice(to, from, count); err != nil {
				return err
			}
		}
	}
}
