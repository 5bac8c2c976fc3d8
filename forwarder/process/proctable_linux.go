package process

import (
	"bytes"
	"os"
	"strconv"

	"github.com/localport-sh/localport/lockstate"
)

// tableEntry is what /proc/PID/stat says about a process.
type tableEntry struct {
	lockstate.Process
	parent, group, session int
	isZombie               bool
}

// processTable is a picture of all processes, by pid.
type processTable map[int]tableEntry

func readProcessTable() processTable {
	table := make(processTable)
	dir, err := os.Open("/proc")
	if err != nil {
		return table
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if e, ok := readTableEntry(pid); ok {
			table[pid] = e
		}
	}
	return table
}

func readTableEntry(pid int) (e tableEntry, ok bool) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return e, false
	}
	// proc_pid_stat(5), from the third field on: the second is a name that may contain anything.
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 20 {
		return e, false
	}
	e.PID, e.isZombie = pid, fields[0][0] == 'Z' || fields[0][0] == 'X'
	e.parent, _ = strconv.Atoi(string(fields[1]))
	e.group, _ = strconv.Atoi(string(fields[2]))
	e.session, _ = strconv.Atoi(string(fields[3]))
	e.Start, err = strconv.ParseUint(string(fields[19]), 10, 64)
	return e, err == nil
}

// startTime returns the lockstate.Process.Start of a process, also of a zombie.
func startTime(pid int) uint64 {
	e, _ := readTableEntry(pid)
	return e.Start
}

// tree returns a process and its descendants, without zombies.
func (table processTable) tree(root int) []tableEntry {
	var found []tableEntry
	isInTree := map[int]bool{root: true}
	for pending := []int{root}; len(pending) > 0; pending = pending[1:] {
		pid := pending[0]
		if entry, ok := table[pid]; ok && !entry.isZombie {
			found = append(found, entry)
		}
		for _, e := range table {
			if e.parent == pid && !isInTree[e.PID] {
				isInTree[e.PID] = true
				pending = append(pending, e.PID)
			}
		}
	}
	return found
}
