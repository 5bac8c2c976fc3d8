// Package memtrim makes a process that lives for days let go of what only its start needed: garbage, and the pages of the program
// that its initialisation went through.
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

// Trim gives back what the process does not need at the moment. Pages of the program that it does need come back by
// themselves, from memory that the system has anyway.
func Trim() {
	debug.FreeOSMemory()
	unmap()
}
