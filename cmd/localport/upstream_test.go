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

// server is a far end: it answers each line with a greeting and the line.
type server struct {
	addr string
	port int

	ln    net.Listener
	conns sync.WaitGroup
}

func serve(t testing.TB, addr string) *server {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: ln.Addr().String(), port: ln.Addr().(*net.TCPAddr).Port, ln: ln}
	s.conns.Go(func() { greetAll(ln, &s.conns) })
	t.Cleanup(s.close)
	return s
}

func (s *server) close() {
	s.ln.Close()
	s.conns.Wait()
}

func greetAll(ln net.Listener, conns *sync.WaitGroup) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		conns.Go(func() {
			defer conn.Close()
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				fmt.Fprintf(conn, "hello %s\n", lines.Text())
			}
		})
	}
}

// upstreamVariable makes the test binary a far end that listens on the port given as its argument: a program for
// technology = "command".
const upstreamVariable = "LOCALPORT_TEST_SERVER"

// stubborn is its value where the far end is to ignore SIGTERM: only force ends it, after the grace of 2 s.
const stubborn = "stubborn"

func runUpstream() int {
	if os.Getenv(upstreamVariable) == stubborn {
		signal.Ignore(syscall.SIGTERM)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("listening, with the secret", os.Getenv("SECRET"))
	var conns sync.WaitGroup
	greetAll(ln, &conns)
	return 0
}

// commandConfig is a service that this test binary serves.
func commandConfig(t testing.TB, name string, port any) string {
	return fmt.Sprintf("[services.%s]\ntechnology = \"command\"\nlocal_port = %v\ncommand = [%q, %q, %q, %q, \"{port}\"]\n",
		name, port, "/usr/bin/env", "-u"+mainVariable, upstreamVariable+"=1", self(t))
}

// tcpConfig is a service at a server's address.
func tcpConfig(name string, port any, s *server) string {
	return fmt.Sprintf("[services.%s]\ntechnology = \"tcp\"\nlocal_port = %v\nremote_port = %d\n"+
		"connection = { remote_host = \"127.0.0.1\" }\n", name, port, s.port)
}

// readAll is a connection's whole answer, for a protocol in which the server speaks first.
func readAll(addr string) (string, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	data, err := io.ReadAll(conn)
	return strings.TrimSpace(string(data)), err
}
