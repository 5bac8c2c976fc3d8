package lockstate

import "os"

// Process is a process that cannot be mistaken for a later one with the same pid.
type Process struct {
	PID int `json:"pid"`
	// Start is when it started: clock ticks after boot on Linux (field 22 of /proc/PID/stat, which shells can
	// read too), microseconds since 1970 on macOS.
	Start uint64 `json:"start"`
}

// Self is the calling process.
func Self() Process {
	p, _ := Find(os.Getpid())
	return p
}

// Find is the process that has pid now; false if there is none, or only a zombie.
func Find(pid int) (Process, bool) {
	start, ok := startTime(pid)
	return Process{PID: pid, Start: start}, ok
}

// Alive reports whether this very process still runs.
func (p Process) Alive() bool {
	now, ok := Find(p.PID)
	return ok && now == p
}
