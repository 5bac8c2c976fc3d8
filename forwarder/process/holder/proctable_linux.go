package holder

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// listeningSocket is an entry of the kernel's tables of TCP sockets.
type listeningSocket struct {
	inode string
	uid   int
}

// listeningSockets returns the sockets that accept connections to addr: first those bound to it, then those bound to all
// addresses.
func listeningSockets(addr netip.AddrPort) []listeningSocket {
	var exact, wildcard []listeningSocket
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		data, _ := os.ReadFile(table) // tcp6 does not exist on a machine without IPv6
		for line := range strings.Lines(string(data)) {
			localAddr, s, ok := parseTableLine(line)
			switch {
			case !ok || localAddr.Port() != addr.Port():
			case localAddr.Addr().Unmap() == addr.Addr().Unmap():
				exact = append(exact, s)
			case localAddr.Addr().IsUnspecified() && (localAddr.Addr().Is6() || addr.Addr().Is4()):
				wildcard = append(wildcard, s)
			}
		}
	}
	return append(exact, wildcard...)
}

// portSockets returns the sockets that listen on a port, on any address.
func portSockets(port uint16) []listeningSocket {
	var sockets []listeningSocket
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		data, _ := os.ReadFile(table)
		for line := range strings.Lines(string(data)) {
			if localAddr, s, ok := parseTableLine(line); ok && localAddr.Port() == port {
				sockets = append(sockets, s)
			}
		}
	}
	return sockets
}

// connectedSockets returns the sockets that are connected to one of the addresses.
func connectedSockets(addrs []netip.AddrPort) (sockets []listeningSocket) {
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		data, _ := os.ReadFile(table)
		for line := range strings.Lines(string(data)) {
			// TCP_ESTABLISHED, and TCP_CLOSE_WAIT, in which the program can still send (the kernel's include/net/tcp_states.h).
			if !strings.Contains(line, " 01 ") && !strings.Contains(line, " 08 ") {
				continue
			}
			fields := strings.Fields(line)
			if len(fields) < 10 || fields[3] != "01" && fields[3] != "08" {
				continue
			}
			if remote, ok := parseHexAddr(fields[2]); ok && slices.Contains(addrs, netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())) {
				sockets = append(sockets, listeningSocket{inode: fields[9]})
			}
		}
	}
	return sockets
}

// parseTableLine parses one line of a table (proc_pid_net(5)); false unless the socket listens.
func parseTableLine(line string) (netip.AddrPort, listeningSocket, bool) {
	const listen = "0A"
	fields := strings.Fields(line)
	if len(fields) < 10 || fields[3] != listen {
		return netip.AddrPort{}, listeningSocket{}, false
	}
	localAddr, ok := parseHexAddr(fields[1])
	uid, err := strconv.Atoi(fields[7])
	return localAddr, listeningSocket{inode: fields[9], uid: uid}, ok && err == nil
}

// parseHexAddr parses an address of the tables: hexadecimal words of four bytes in the machine's byte order.
func parseHexAddr(text string) (netip.AddrPort, bool) {
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
