package holder

import (
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Connections returns the connections of this machine's processes to the addresses, ordered by the client's address. It reads the tables of all
// connections and, if there are any to these addresses, the descriptors of all processes of this user.
func Connections(addrs []netip.AddrPort) []Connection {
	sockets := establishedTo(addrs)
	if len(sockets) == 0 {
		return nil
	}
	holders := make(map[string]map[int]Holder, len(sockets)) // by inode, then by pid
	for _, pid := range allPIDs() {
		inodes, _ := socketInodes(pid)
		for _, socket := range sockets {
			if inodes[socket.inode] {
				if holders[socket.inode] == nil {
					holders[socket.inode] = map[int]Holder{}
				}
				holders[socket.inode][pid] = Holder{PID: pid, Name: processName(pid), UID: socket.uid}
			}
		}
	}
	connections := make([]Connection, 0, len(sockets))
	for _, socket := range sockets {
		connection := Connection{Client: socket.client, Server: socket.server, Holder: Holder{UID: socket.uid}}
		if found := holders[socket.inode]; len(found) > 0 {
			connection.Holder = outermostHolder(found, parentPID)
		}
		connections = append(connections, connection)
	}
	slices.SortFunc(connections, func(a, b Connection) int { return a.Client.Compare(b.Client) })
	return connections
}

// clientSocket is the client's end of a connection.
type clientSocket struct {
	client, server netip.AddrPort
	listeningSocket
}

// establishedTo returns the clients' ends of the connections to the addresses.
func establishedTo(addrs []netip.AddrPort) (sockets []clientSocket) {
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		data, _ := os.ReadFile(table)
		for line := range strings.Lines(string(data)) {
			if socket, ok := parseClientLine(line); ok && slices.Contains(addrs, socket.server) {
				sockets = append(sockets, socket)
			}
		}
	}
	return sockets
}

// parseClientLine parses one line of a table (proc_pid_net(5)); false unless the socket is connected and has a process.
func parseClientLine(line string) (clientSocket, bool) {
	fields := strings.Fields(line)
	// TCP_ESTABLISHED, and TCP_CLOSE_WAIT, in which the program can still send (the kernel's include/net/tcp_states.h).
	if len(fields) < 10 || fields[3] != "01" && fields[3] != "08" || fields[9] == "0" {
		return clientSocket{}, false
	}
	client, isClient := parseHexAddr(fields[1])
	server, isServer := parseHexAddr(fields[2])
	uid, err := strconv.Atoi(fields[7])
	return clientSocket{unmap(client), unmap(server), listeningSocket{inode: fields[9], uid: uid}}, isClient && isServer && err == nil
}

func unmap(addr netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
}
