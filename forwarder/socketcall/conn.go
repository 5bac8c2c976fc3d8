package socketcall

import (
	"errors"
	"net"
	"syscall"
)

// conn is a connection whose reads and writes are calls of this package.
type conn struct {
	net.Conn
	reader    *reader
	rawConn   syscall.RawConn
	writeFunc func(fd uintptr) bool // sendUnsent, allocated once
	unsent    []byte                // the rest of Write's argument
	writeErr  error
}

// NewConn returns a connection that reads and writes by calls of this package, or the connection itself if it is not a socket. At most one
// Read and one Write may be called at a time.
func NewConn(c net.Conn) net.Conn {
	r, ok := NewReader(c).(*reader)
	if !ok {
		return c
	}
	wrapped := &conn{Conn: c, reader: r, rawConn: r.rawConn}
	wrapped.writeFunc = wrapped.sendUnsent
	return wrapped
}

func (c *conn) Read(p []byte) (int, error) { return c.reader.Read(p) }

func (c *conn) Write(p []byte) (int, error) {
	c.unsent, c.writeErr = p, nil
	err := c.rawConn.Write(c.writeFunc)
	n := len(p) - len(c.unsent)
	c.unsent = nil
	if err == nil {
		err = c.writeErr
	}
	return n, err
}

// sendUnsent has the form that syscall.RawConn.Write takes: false means to wait until the socket is writable.
func (c *conn) sendUnsent(fd uintptr) bool {
	c.unsent, c.writeErr = SendAll(fd, c.unsent)
	return !errors.Is(c.writeErr, syscall.EAGAIN)
}
