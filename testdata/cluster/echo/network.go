package main

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// socketDir is the pod's directory with the stand-in for the kubelet, whose pods have no namespaces: instead of a port, the program listens
// on a unix socket there, and it keeps its files there. It is "" in a container.
var socketDir = os.Getenv("POD_SOCKETS")

// resolve returns the network and the address to use instead of a TCP address.
func resolve(address string) (string, string) {
	_, port, err := net.SplitHostPort(address)
	if socketDir == "" || err != nil {
		return "tcp", address
	}
	return "unix", filepath.Join(socketDir, port)
}

// filePath returns the path to use for the path of a file.
func filePath(path string) string { return filepath.Join(socketDir, path) }

func dial(address string) (net.Conn, error) {
	network, address := resolve(address)
	return net.DialTimeout(network, address, time.Second)
}

func listen(address string) net.Listener {
	l, err := net.Listen(resolve(address))
	exitOnError(err)
	return l
}

// serveConns listens on an address in the background, calls serve for each connection, and closes the connection afterwards.
func serveConns(address string, serve func(net.Conn)) {
	l := listen(address)
	go func() {
		for {
			conn, err := l.Accept()
			exitOnError(err)
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
}

// resetOnData waits until the client has sent something, and has the caller's Close reset the connection. Nothing is read: that makes the
// close of a unix socket, which knows no SO_LINGER, a reset too.
func resetOnData(conn net.Conn) {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) bool {
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK)
		return err != syscall.EAGAIN
	})
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
}
