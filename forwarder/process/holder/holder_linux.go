package holder

import (
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Find returns the process that listens on addr, or on all addresses with addr's port. If several processes share the socket (a
// program and its workers, or a child before its exec), it returns the one that the others inherited it from.
func Find(addr netip.AddrPort) (Holder, bool) {
	sockets := listeningSockets(addr)
	if len(sockets) == 0 {
		return Holder{}, false
	}
	holders := map[int]Holder{}
	for _, pid := range allPIDs() {
		inodes, _ := socketInodes(pid)
		if i := slices.IndexFunc(sockets, inodes.contains); i >= 0 {
			holders[pid] = Holder{PID: pid, Name: processName(pid), UID: sockets[i].uid}
		}
	}
	if len(holders) == 0 {
		return Holder{UID: sockets[0].uid}, true
	}
	return outermostHolder(holders, parentPID), true
}

// FindAmong is Find for a few processes: it reads only the descriptors of these.
func FindAmong(addr netip.AddrPort, pids []int) (pid int, ok bool) {
	sockets := listeningSockets(addr)
	if len(sockets) == 0 {
		return 0, false
	}
	i := slices.IndexFunc(pids, func(pid int) bool {
		inodes, _ := socketInodes(pid)
		return slices.ContainsFunc(sockets, inodes.contains)
	})
	if i < 0 {
		return 0, false
	}
	return pids[i], true
}

// CanFindClients reports whether FindClients finds any.
const CanFindClients = true

// FindClients returns the processes that have a connection to one of the addresses, among those for which isCandidate returns true: to list a
// process's descriptors, and the machine's connections, takes longer than most other questions.
func FindClients(addrs []netip.AddrPort, isCandidate func(pid int) bool) (clients []Holder) {
	candidates := slices.DeleteFunc(allPIDs(), func(pid int) bool { return !isCandidate(pid) })
	if len(candidates) == 0 {
		return nil
	}
	sockets := connectedSockets(addrs)
	for _, pid := range candidates {
		if inodes, _ := socketInodes(pid); slices.ContainsFunc(sockets, inodes.contains) {
			clients = append(clients, Holder{PID: pid, Name: processName(pid), UID: os.Getuid()})
		}
	}
	return clients
}

// Environ returns the environment with which a process of this user was started, as text whose entries end with a zero byte; empty if it cannot be
// read.
func Environ(pid int) string {
	data, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	return string(data)
}

// outermostHolder returns a holder whose parent does not hold the socket.
func outermostHolder(holders map[int]Holder, parent func(pid int) int) Holder {
	pids := slices.Sorted(maps.Keys(holders))
	for _, pid := range pids {
		if _, inherited := holders[parent(pid)]; !inherited {
			return holders[pid]
		}
	}
	return holders[pids[0]] // parents changed while they were read
}

// GroupListensOn reports whether a process of the group listens on addr. A member whose descriptors we may not read (it runs as
// another user) counts as the listener.
func GroupListensOn(pgid int, addr netip.AddrPort) bool {
	sockets := listeningSockets(addr)
	if len(sockets) == 0 {
		return false
	}
	for _, pid := range allPIDs() {
		if processGroup(pid) != pgid {
			continue
		}
		if inodes, ok := socketInodes(pid); !ok || slices.ContainsFunc(sockets, inodes.contains) {
			return true
		}
	}
	return false
}

// PortListeners returns those of the processes that listen on a port, on any address.
func PortListeners(port uint16, pids []int) []int {
	sockets := portSockets(port)
	if len(sockets) == 0 {
		return nil
	}
	var listeners []int
	for _, pid := range pids {
		if inodes, _ := socketInodes(pid); slices.ContainsFunc(sockets, inodes.contains) {
			listeners = append(listeners, pid)
		}
	}
	return listeners
}

func allPIDs() []int {
	dirs, _ := filepath.Glob("/proc/[1-9]*")
	pids := make([]int, 0, len(dirs))
	for _, dir := range dirs {
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// inodeSet is a set of sockets, by inode.
type inodeSet map[string]bool

func (set inodeSet) contains(s listeningSocket) bool { return set[s.inode] }

// socketInodes returns the inodes of the sockets that a process holds; false if we may not read its descriptors.
func socketInodes(pid int) (inodeSet, bool) {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, !os.IsPermission(err)
	}
	inodes := inodeSet{}
	for _, entry := range entries {
		target, err := os.Readlink(filepath.Join(dir, entry.Name()))
		if inode, ok := strings.CutPrefix(target, "socket:["); err == nil && ok {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return inodes, true
}

func processName(pid int) string {
	data, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	return strings.TrimSpace(string(data))
}

// The fields of /proc/PID/stat (proc_pid_stat(5)), counted after the name, which may contain any character.
func parentPID(pid int) int    { return statField(pid, 1) }
func processGroup(pid int) int { return statField(pid, 2) }

func statField(pid, n int) int {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	stat := string(data)
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) <= n {
		return 0
	}
	value, _ := strconv.Atoi(fields[n])
	return value
}
