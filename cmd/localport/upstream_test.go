package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// server is an upstream.
type server struct {
	addr string
	port int

	ln    net.Listener
	conns sync.WaitGroup
}

// serve starts a server that answers each line with a greeting and the line.
func serve(t testing.TB, addr string) *server {
	t.Helper()
	return startServer(t, addr, greetLines)
}

// startServer starts a server that calls handle for each connection, in a goroutine, and closes the connection afterwards. The end of
// the test waits for all of them.
func startServer(t testing.TB, addr string, handle func(net.Conn)) *server {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: ln.Addr().String(), port: ln.Addr().(*net.TCPAddr).Port, ln: ln}
	s.conns.Go(func() { acceptAll(ln, &s.conns, handle) })
	t.Cleanup(s.close)
	return s
}

func (s *server) close() {
	s.ln.Close()
	s.conns.Wait()
}

func acceptAll(ln net.Listener, conns *sync.WaitGroup, handle func(net.Conn)) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		conns.Go(func() {
			defer conn.Close()
			handle(conn)
		})
	}
}

func greetLines(conn net.Conn) {
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		fmt.Fprintf(conn, "hello %s\n", lines.Text())
	}
}

// upstreamVariable makes the test binary a server like serve's, which listens on the port given as its argument: a program for the
// technology "command".
const upstreamVariable = "LOCALPORT_TEST_SERVER"

// ignoreSIGTERM is the value of upstreamVariable for a server that ignores SIGTERM: the supervisor kills it after 2 s.
const ignoreSIGTERM = "ignore SIGTERM"

func runUpstream() int {
	if os.Getenv(upstreamVariable) == ignoreSIGTERM {
		signal.Ignore(syscall.SIGTERM)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("listening, with the secret", os.Getenv("SECRET"))
	var conns sync.WaitGroup
	acceptAll(ln, &conns, greetLines)
	return 0
}

// commandConfig returns a service whose command is this test binary as a server.
func commandConfig(t testing.TB, name string, port any) string {
	return fmt.Sprintf("[services.%s]\ntechnology = \"command\"\nlocal_port = %v\ncommand = [%q, %q, %q, %q, \"{port}\"]\n",
		name, port, "/usr/bin/env", "-u"+mainVariable, upstreamVariable+"=1", ownExecutable(t))
}

// tcpConfig returns a service whose upstream is s.
func tcpConfig(name string, port any, s *server) string {
	return fmt.Sprintf("[services.%s]\ntechnology = \"tcp\"\nlocal_port = %v\nremote_port = %d\n"+
		"connection = { remote_host = \"127.0.0.1\" }\n", name, port, s.port)
}

// readAll connects and returns all that the server sends, for protocols in which the server speaks first.
func readAll(addr string) (string, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	data, err := io.ReadAll(conn)
	return strings.TrimSpace(string(data)), err
}
