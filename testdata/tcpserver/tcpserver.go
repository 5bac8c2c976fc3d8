// Package tcpserver runs TCP servers of a test in its own process.
package tcpserver

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Start starts a server on a free port of 127.0.0.1. It calls serve for each connection, in a goroutine of its own, and closes the connection
// when serve returns. The listener is closed when the test ends, which waits for all calls of serve.
func Start(t testing.TB, serve func(conn *net.TCPConn)) *net.TCPAddr {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				serve(conn.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() { ln.Close(); serving.Wait() })
	return ln.Addr().(*net.TCPAddr)
}

// Echo sends back what it receives, until the client has closed its side.
func Echo(conn *net.TCPConn) { _, _ = io.Copy(conn, conn) }

// GreetAndEcho sends "welcome " and then does what Echo does.
func GreetAndEcho(conn *net.TCPConn) {
	_, _ = conn.Write([]byte("welcome "))
	Echo(conn)
}
