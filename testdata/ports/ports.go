// Package ports finds free ports for tests: for a config that needs a number, and for programs that cannot let the kernel choose a
// port or must be restarted on the same one.
package ports

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"testing"
)

// portRange returns the first port and the size of a range that is disjoint from the ports that the kernel gives to outgoing connections (32768 to 60999 on Linux, from
// 49152 on macOS): such a connection could take a port before the test does or, if it dials that very port, be connected to itself. On
// Linux it is disjoint from those of local_port = "auto" (10001 to 32767), too: a supervisor of another test could take such a port.
func portRange() (first, count int) {
	if runtime.GOOS == "linux" {
		return 61000, 4500
	}
	return 12000, 20000
}

// Port is a port that Reserve returns to nobody else, in any process, until it is released.
type Port struct {
	Number int
	// udpMark is a socket on the UDP port of the same number. It marks the port as reserved, and the kernel closes it when the process
	// ends. It cannot be a TCP listener: a program that another goroutine starts at that moment would inherit it.
	udpMark net.PacketConn
}

// Reserve returns a port on which nothing listens. The caller releases it.
func Reserve() (*Port, error) {
	first, count := portRange()
	for range 1000 {
		number := first + rand.N(count)
		udpMark, err := net.ListenPacket("udp4", address("127.0.0.1", number))
		if err != nil {
			continue
		}
		if isFree("127.0.0.1", number) && isFree("::1", number) {
			return &Port{Number: number, udpMark: udpMark}, nil
		}
		_ = udpMark.Close()
	}
	return nil, errors.New("found no free port")
}

// Release ends the reservation. It may be called more than once.
func (p *Port) Release() {
	_ = p.udpMark.Close()
}

// FreePort reserves a port until the end of the test.
func FreePort(t testing.TB) int {
	t.Helper()
	port, err := Reserve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(port.Release)
	return port.Number
}

// isFree reports whether nobody listens on a port of an address. If the machine does not have the address, nobody does.
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
