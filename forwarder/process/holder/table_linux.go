package holder

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// socket is a listening socket, as the kernel's tables have it.
type socket struct {
	inode string
	uid   int
}

// listeners are the sockets that take connections to addr: those bound to it first, then those bound to every
// address.
func listeners(addr netip.AddrPort) []socket {
	var exact, wildcard []socket
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		data, _ := os.ReadFile(table) // there is no tcp6 on a machine without IPv6
		for line := range strings.Lines(string(data)) {
			at, s, ok := parse(line)
			switch {
			case !ok || at.Port() != addr.Port():
			case at.Addr().Unmap() == addr.Addr().Unmap():
				exact = append(exact, s)
			case at.Addr().IsUnspecified() && (at.Addr().Is6() || addr.Addr().Is4()):
				wildcard = append(wildcard, s)
			}
		}
	}
	return append(exact, wildcard...)
}

// parse reads one line of a table (proc_pid_net(5)); false unless the socket listens.
func parse(line string) (netip.AddrPort, socket, bool) {
	const listen = "0A"
	fields := strings.Fields(line)
	if len(fields) < 10 || fields[3] != listen {
		return netip.AddrPort{}, socket{}, false
	}
	at, ok := parseAddr(fields[1])
	uid, err := strconv.Atoi(fields[7])
	return at, socket{inode: fields[9], uid: uid}, ok && err == nil
}

// parseAddr reads an address as the tables write it: words of four bytes in the machine's order, in hexadecimal.
func parseAddr(text string) (netip.AddrPort, bool) {
	host, port, _ := strings.Cut(text, ":")
	number, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, false
	}
	words, err := hex.DecodeString(host)
	if err != nil || len(words)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(words); i += 4 {
		binary.NativeEndian.PutUint32(words[i:], binary.BigEndian.Uint32(words[i:]))
	}
	addr, ok := netip.AddrFromSlice(words)
	return netip.AddrPortFrom(addr, uint16(number)), ok
}
