package lockstate

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// initialPIDNamespace is the id of the PID namespace of the machine (PROC_PID_INIT_INO in linux/proc_ns.h), in which every process is visible.
const initialPIDNamespace = 0xEFFFFFFC

// initialUserNamespace is the id of the user namespace of the machine (PROC_USER_INIT_INO), which is above all others.
const initialUserNamespace = 0xEFFFFFFD

// ownNamespaces returns the ids of this process's namespaces (namespaces(7)).
var ownNamespaces = sync.OnceValue(func() (own namespaces) {
	own.pid, _ = namespaceOf("self", "pid")
	own.net, _ = namespaceOf("self", "net")
	own.mount, _ = namespaceOf("self", "mnt")
	own.user, _ = namespaceOf("self", "user")
	return own
})

// namespaceOf returns the id of a namespace of a process: the inode of its file in /proc.
func namespaceOf(pid, kind string) (uint64, error) {
	info, err := os.Stat("/proc/" + pid + "/ns/" + kind)
	if err != nil {
		return 0, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	return stat.Ino, nil
}

// findInNamespace returns the process that has the pid and start time of p in another PID namespace, as it is numbered in this one. It is not ok
// if that process has ended or is not visible here: only those of namespaces below this one are.
func findInNamespace(p Process, namespace uint64) (found Process, ok bool) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return Process{}, false
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if start, err := startTime(pid); err != nil || start != p.Start || innermostPID(entry.Name()) != p.PID {
			continue
		}
		id, err := namespaceOf(entry.Name(), "pid")
		if id == namespace || errors.Is(err, fs.ErrPermission) {
			return Process{PID: pid, Start: p.Start}, true
		}
	}
	return Process{}, false
}

// innermostPID returns the pid that a process has in its own PID namespace (NSpid in proc_pid_status(5)); 0 if it is not known.
func innermostPID(pid string) int {
	data, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if pids, isIt := strings.CutPrefix(line, "NSpid:"); isIt {
			fields := strings.Fields(pids)
			inner, _ := strconv.Atoi(fields[len(fields)-1])
			return inner
		}
	}
	return 0
}
