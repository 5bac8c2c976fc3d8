package project

import (
	"crypto/sha256"
	"encoding/binary"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// Ports for local_port = "auto" start at minAutoPort, above the ports on which programs usually listen, and are outside the range from
// which the kernel picks ports for outgoing connections: such a connection would occasionally take the port.
const minAutoPort = 10001

// portRange is an inclusive range of ports.
type portRange struct{ first, last int }

func (r portRange) size() int { return r.last - r.first + 1 }

// PickAutoPort returns the port of a service: the same from run to run, another in another checkout. If it is taken, it returns the
// next free one; isTaken may be nil. It returns 0 if every port is taken.
func PickAutoPort(root, service string, isTaken func(int) bool) int {
	candidates := autoPortRange(ephemeralPortRange())
	sum := sha256.Sum256([]byte(root + "\x00" + service))
	start := int(binary.BigEndian.Uint32(sum[:]) % uint32(candidates.size()))
	for i := range candidates.size() {
		port := candidates.first + (start+i)%candidates.size()
		if isTaken == nil || !isTaken(port) {
			return port
		}
	}
	return 0
}

// autoPortRange returns the larger of the two ranges below and above the ephemeral ports. If neither has 256 ports, which only a user can
// have configured, auto ports may be ephemeral ports.
func autoPortRange(ephemeral portRange) portRange {
	below := portRange{minAutoPort, min(ephemeral.first-1, 65535)}
	above := portRange{max(ephemeral.last+1, minAutoPort), 65535}
	larger := below
	if above.size() > below.size() {
		larger = above
	}
	if larger.size() < 256 {
		return portRange{minAutoPort, 65535}
	}
	return larger
}

// ephemeralPortRange returns the range from which the kernel picks ports for outgoing connections.
func ephemeralPortRange() portRange {
	if runtime.GOOS != "linux" {
		return portRange{49152, 65535} // IANA's, and the default of macOS
	}
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if r, ok := parsePortRange(string(data)); ok && err == nil {
		return r
	}
	return portRange{32768, 60999} // Linux's default
}

func parsePortRange(text string) (portRange, bool) {
	fields := strings.Fields(text)
	if len(fields) != 2 {
		return portRange{}, false
	}
	first, err1 := strconv.Atoi(fields[0])
	last, err2 := strconv.Atoi(fields[1])
	ok := err1 == nil && err2 == nil && first >= 1 && first <= last && last <= 65535
	return portRange{first, last}, ok
}
