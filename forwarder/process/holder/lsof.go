package holder

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// lsofTimeout bounds a run of lsof, which can hang on a dead network file system.
const lsofTimeout = 2 * time.Second

// findWithLsof runs lsof, which macOS has, for at most lsofTimeout. Its callers have no context: they explain a bind that failed.
func findWithLsof(addr netip.AddrPort) (Holder, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), lsofTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "lsof",
		"-nP", fmt.Sprintf("-iTCP:%d", addr.Port()), "-sTCP:LISTEN", "-FpcuPn").Output()
	if err != nil {
		return Holder{}, false
	}
	return parseLsof(string(out), addr)
}

// parseLsof parses the output of lsof -F for listening sockets.
func parseLsof(out string, addr netip.AddrPort) (found Holder, ok bool) {
	readLsof(out, func(h Holder, name string) {
		localAddr, err := netip.ParseAddrPort(name)
		if !ok && (strings.HasPrefix(name, "*:") || err == nil && localAddr == addr) {
			found, ok = h, true
		}
	})
	return found, ok
}

// readLsof calls onSocket with the name of each socket in the output of lsof -F, and the process that has it: one field a line, a letter and its
// value; a process comes before its sockets.
func readLsof(out string, onSocket func(h Holder, name string)) {
	var h Holder
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n")
		if line == "" {
			continue
		}
		value := line[1:]
		switch line[0] {
		case 'p':
			pid, _ := strconv.Atoi(value)
			h = Holder{PID: pid}
		case 'c':
			h.Name = value
		case 'u':
			h.UID, _ = strconv.Atoi(value)
		case 'n':
			onSocket(h, value)
		}
	}
}

// connectionsWithLsof runs lsof, for at most lsofTimeout, for the ports of the addresses.
func connectionsWithLsof(addrs []netip.AddrPort) []Connection {
	if len(addrs) == 0 {
		return nil
	}
	ports := make([]string, 0, len(addrs))
	for _, addr := range addrs {
		ports = append(ports, strconv.Itoa(int(addr.Port())))
	}
	ctx, cancel := context.WithTimeout(context.Background(), lsofTimeout)
	defer cancel()
	// It exits 1 if it finds nothing for one of the selections.
	out, _ := exec.CommandContext(ctx, "lsof",
		"-nP", "-iTCP:"+strings.Join(ports, ","), "-sTCP:ESTABLISHED,CLOSE_WAIT", "-FpcuPn").Output()
	return parseLsofConnections(string(out), addrs)
}

// parseLsofConnections parses the output of lsof -F for connected sockets, whose names are CLIENT->SERVER.
func parseLsofConnections(out string, addrs []netip.AddrPort) (connections []Connection) {
	readLsof(out, func(h Holder, name string) {
		clientText, serverText, _ := strings.Cut(name, "->")
		client, clientErr := netip.ParseAddrPort(clientText)
		server, serverErr := netip.ParseAddrPort(serverText)
		if clientErr == nil && serverErr == nil && slices.Contains(addrs, server) {
			connections = append(connections, Connection{Client: client, Server: server, Holder: h})
		}
	})
	slices.SortStableFunc(connections, func(a, b Connection) int { return a.Client.Compare(b.Client) })
	return slices.CompactFunc(connections, func(a, b Connection) bool { return a.Client == b.Client }) // a socket that processes share
}
