// Package memtrim reduces the memory of a long-running process: it frees garbage, and pages of the executable that only the start
// needed.
package memtrim

import (
	"context"
	"runtime/debug"
	"time"
)

// Run trims the process after some seconds, when its start is over, and once more when it has settled. It returns when ctx ends,
// not before: a goroutine that ended after the last trim would bring back the pages that its end goes through (0.3 MB).
func Run(ctx context.Context) {
	started, settled := time.NewTimer(3*time.Second), time.NewTimer(time.Minute)
	defer started.Stop()
	defer settled.Stop()
	for {
		select {
		case <-started.C:
		case <-settled.C:
		case <-ctx.Done():
			return
		}
		Trim()
	}
}

// Trim returns free memory and the executable's pages to the system. Pages that are needed are mapped again on access, from the
// page cache as a rule.
func Trim() {
	debug.FreeOSMemory()
	dropProgramPages()
}
