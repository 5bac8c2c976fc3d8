package main

import (
	"net"
	"os"
	"path/filepath"
	"time"
)

// sockets is where a stand-in for a kubelet, which has no namespaces for its pods, wants a socket for each port; empty in
// a container. Files are there, too.
var sockets = os.Getenv("POD_SOCKETS")

// network is the network and the address that stand for a TCP address.
func network(address string) (string, string) {
	_, port, err := net.SplitHostPort(address)
	if sockets == "" || err != nil {
		return "tcp", address
	}
	return "unix", filepath.Join(sockets, port)
}

// place is the path of a file.
func place(path string) string { return filepath.Join(sockets, path) }

func dial(address string) (net.Conn, error) {
	network, address := network(address)
	return net.DialTimeout(network, address, time.Second)
}

func listen(address string) net.Listener {
	l, err := net.Listen(network(address))
	check(err)
	return l
}

// accept serves each connection to an address, and closes it afterwards.
func accept(address string, serve func(net.Conn)) {
	l := listen(address)
	go func() {
		for {
			conn, err := l.Accept()
			check(err)
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
}
