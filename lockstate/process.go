package lockstate

import (
	"errors"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Process is a process that cannot be mistaken for a later one with the same pid.
type Process struct {
	PID int `json:"pid"`
	// Start is when it started: clock ticks after boot on Linux (field 22 of /proc/PID/stat, which shells can
	// read too), microseconds since 1970 on macOS.
	Start uint64 `json:"start"`
}

var selfProcess atomic.Pointer[Process]

// Self is the calling process. It is read once: later there may be no descriptor for it.
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

// FindProcess is the process that has pid now; false if there is none, or only a zombie.
func FindProcess(pid int) (Process, bool) {
	start, err := startTime(pid)
	return Process{PID: pid, Start: start}, err == nil
}

// errEnded says that there is no process with a pid, or only a zombie.
var errEnded = errors.New("the process has ended")

// Alive reports whether this very process still runs. Where that cannot be told, as when no descriptor is free to look, any
// process with its pid is taken for it: a lease is not lost by a look that failed.
func (p Process) Alive() bool {
	start, err := startTime(p.PID)
	switch {
	case err == nil:
		return start == p.Start
	case errors.Is(err, errEnded):
		return false
	}
	return !errors.Is(unix.Kill(p.PID, 0), unix.ESRCH)
}
