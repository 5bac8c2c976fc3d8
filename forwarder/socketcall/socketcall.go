// Package socketcall makes system calls on sockets that never wait, cheaper than those of packages net and syscall.
//
// On Linux they do not tell Go's scheduler that the thread may block. At the first call that does, after all threads were idle, the scheduler
// wakes its monitor thread, which then sleeps for 20 µs at a time: two more context switches for each read and write of a connection
// with little traffic.
package socketcall

import (
	"errors"
	"io"
	"net"
	"syscall"
)

// SendAll writes to a socket and returns what is not written: after syscall.EAGAIN, what the socket does not take yet.
func SendAll(fd uintptr, data []byte) (unsent []byte, err error) {
	for len(data) > 0 && err == nil {
		var n int
		n, err = Send(fd, data)
		data = data[n:]
	}
	return data, err
}

// reader reads from a socket, and waits by Go's poller.
type reader struct {
	rawConn  syscall.RawConn
	readFunc func(fd uintptr) bool // receive, allocated once
	buf      []byte                // Read's argument
	n        int
	err      error
}

// NewReader returns a reader of a connection's bytes, which is the connection itself if that is not a socket. Its Read may not be called
// concurrently.
func NewReader(conn net.Conn) io.Reader {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return conn
	}
	rawConn, err := socket.SyscallConn()
	if err != nil {
		return conn
	}
	r := &reader{rawConn: rawConn}
	r.readFunc = r.receive
	return r
}

func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	r.buf = p
	err := r.rawConn.Read(r.readFunc)
	r.buf = nil
	switch {
	case err != nil:
		return 0, err
	case r.err != nil:
		return 0, r.err
	case r.n == 0:
		return 0, io.EOF
	}
	return r.n, nil
}

func (r *reader) receive(fd uintptr) bool {
	r.n, r.err = Receive(fd, r.buf)
	return !errors.Is(r.err, syscall.EAGAIN)
}
