// Package ports finds ports for tests to listen on: for a config that names one, and for programs that cannot be told to
// take one of the kernel's choice, or that must come back on the one they had.
package ports

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
)

// The range lies outside the one from which kernels give ports to outgoing connections (Linux: from 32768 on, macOS:
// from 49152): one of those could take a port before the test does, or, connecting to it, be connected to itself.
const (
	firstPort = 12000
	portCount = 20000
)

// Port is one that nobody else who asks here is given, in any process, until it is released.
type Port struct {
	Number int
	// The same number of UDP's is what marks it: a mark that the kernel takes away, whoever dies. Nothing ever listens on
	// TCP here, not for a moment: a program that another goroutine is just starting would have inherited the listener.
	udpMark net.PacketConn
}

// Reserve finds a port on which nothing listens.
func Reserve() (*Port, error) {
	for range 1000 {
		number := firstPort + rand.N(portCount)
		mark, err := net.ListenPacket("udp4", address("127.0.0.1", number))
		if err != nil {
			continue
		}
		if isFree("127.0.0.1", number) && isFree("::1", number) {
			return &Port{Number: number, udpMark: mark}, nil
		}
		_ = mark.Close()
	}
	return nil, errors.New("found no free port")
}

// Release lets others have it. It may be called more than once.
func (p *Port) Release() {
	_ = p.udpMark.Close()
}

// FreePort reserves a port for the length of a test.
func FreePort(t testing.TB) int {
	t.Helper()
	port, err := Reserve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(port.Release)
	return port.Number
}

// isFree reports whether nobody listens there; where there is no such address, nobody does.
func isFree(host string, number int) bool {
	conn, err := net.Dial("tcp", address(host, number))
	if err != nil {
		return true
	}
	conn.Close()
	return false
}

func address(host string, number int) string {
	return netip.AddrPortFrom(netip.MustParseAddr(host), uint16(number)).String()
}
