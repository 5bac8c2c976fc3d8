package main

import (
	"bufio"
	"io"
	"net"
	"testing"
	"time"
)

// connection is a client's connection to a forward.
type connection struct {
	t     *testing.T
	conn  *net.TCPConn
	lines *bufio.Reader
}

// dial connects to a forward.
func dial(t *testing.T, addr string) *connection {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return newConnection(t, conn)
}

// newConnection closes conn at the end of the test.
func newConnection(t *testing.T, conn net.Conn) *connection {
	t.Helper()
	t.Cleanup(func() { conn.Close() })
	c := &connection{t, conn.(*net.TCPConn), bufio.NewReader(conn)}
	c.setDeadline()
	return c
}

// setDeadline makes reads and writes fail that are not done in 30 s.
func (c *connection) setDeadline() {
	c.t.Helper()
	if err := c.conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		c.t.Fatal(err)
	}
}

// exchangeLine sends a line and returns the next line that it receives.
func (c *connection) exchangeLine(line string) string {
	c.t.Helper()
	c.setDeadline()
	if _, err := io.WriteString(c.conn, line+"\n"); err != nil {
		c.t.Fatal(err)
	}
	answer, err := c.lines.ReadString('\n')
	if err != nil {
		c.t.Fatal(err)
	}
	return answer
}
