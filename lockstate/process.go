package lockstate

import (
	"errors"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Process identifies a process: its start time distinguishes it from a later one with the same pid.
type Process struct {
	PID int `json:"pid"`
	// Start is the start time: clock ticks after boot on Linux (field 22 of /proc/PID/stat, which shells can read too), microseconds since
	// 1970 on macOS.
	Start uint64 `json:"start"`
}

var selfProcess atomic.Pointer[Process]

// Self returns the calling process. It is read once: later there may be no free descriptor to read /proc.
func Self() Process {
	if p := selfProcess.Load(); p != nil {
		return *p
	}
	p, ok := FindProcess(os.Getpid())
	if ok {
		selfProcess.Store(&p)
	}
	return p
}

// FindProcess returns the process that has pid now; false if there is none, or only a zombie.
func FindProcess(pid int) (Process, bool) {
	start, err := startTime(pid)
	return Process{PID: pid, Start: start}, err == nil
}

// errEnded says that there is no process with a pid, or only a zombie.
var errEnded = errors.New("the process has ended")

// IsAlive reports whether this process is still running. If that cannot be determined, for example for lack of a free descriptor, any
// process with its pid counts as this one: a lease is not lost because a check failed.
func (p Process) IsAlive() bool {
	if table := simulatedTable.Load(); table != nil {
		return (*table).IsAlive(p)
	}
	start, err := startTime(p.PID)
	switch {
	case err == nil:
		return start == p.Start
	case errors.Is(err, errEnded):
		return false
	}
	return !errors.Is(unix.Kill(p.PID, 0), unix.ESRCH)
}
