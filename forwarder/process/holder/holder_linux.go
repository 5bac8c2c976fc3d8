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

// Of is who listens at an address, be it there alone or on all of the machine's addresses. Of a program and those that
// have the socket from it (its workers, or a child that has not become another program yet) it is the first.
func Of(addr netip.AddrPort) (Holder, bool) {
	found := listeners(addr)
	if len(found) == 0 {
		return Holder{}, false
	}
	holders := map[int]Holder{}
	for _, pid := range processes() {
		held, _ := sockets(pid)
		for _, s := range found {
			if held[s.inode] {
				holders[pid] = Holder{PID: pid, Name: name(pid), UID: s.uid}
			}
		}
	}
	if len(holders) == 0 {
		return Holder{UID: found[0].uid}, true
	}
	return first(holders, parent), true
}

// first is the holder that has the socket from no other.
func first(holders map[int]Holder, parent func(pid int) int) Holder {
	pids := slices.Sorted(maps.Keys(holders))
	for _, pid := range pids {
		if _, inherited := holders[parent(pid)]; !inherited {
			return holders[pid]
		}
	}
	return holders[pids[0]] // parents changed while they were looked at
}

// InGroup reports whether a process of the group listens at an address. A member whose descriptors are not for us to
// see (it runs as another user) is believed.
func InGroup(pgid int, addr netip.AddrPort) bool {
	found := listeners(addr)
	if len(found) == 0 {
		return false
	}
	for _, pid := range processes() {
		if group(pid) != pgid {
			continue
		}
		held, ok := sockets(pid)
		if !ok {
			return true
		}
		for _, s := range found {
			if held[s.inode] {
				return true
			}
		}
	}
	return false
}

func processes() []int {
	folders, _ := filepath.Glob("/proc/[1-9]*")
	pids := make([]int, 0, len(folders))
	for _, folder := range folders {
		if pid, err := strconv.Atoi(filepath.Base(folder)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// sockets are the inodes of the sockets that a process holds; false where we may not see.
func sockets(pid int) (map[string]bool, bool) {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, !os.IsPermission(err)
	}
	held := map[string]bool{}
	for _, entry := range entries {
		target, err := os.Readlink(filepath.Join(dir, entry.Name()))
		if inode, ok := strings.CutPrefix(target, "socket:["); err == nil && ok {
			held[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return held, true
}

func name(pid int) string {
	data, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	return strings.TrimSpace(string(data))
}

// The fields of /proc/PID/stat (proc_pid_stat(5)), counted after the name, which may hold anything.
func parent(pid int) int { return field(pid, 1) }
func group(pid int) int  { return field(pid, 2) }

func field(pid, n int) int {
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
