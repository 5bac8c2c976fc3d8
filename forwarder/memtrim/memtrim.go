// Package memtrim reduces the memory of a long-running process: it frees garbage, and pages of the executable that only the start
// needed.
package memtrim

import (
	"context"
	"runtime/debug"
	"time"
)

// Run calls Trim after 3 seconds, when the process has started, and again after a minute. It returns only when ctx is done: a
// goroutine that ended after the last Trim would map the pages again that its end executes (0.3 MB).
func Run(ctx context.Context) {
	startTimer, settleTimer := time.NewTimer(3*time.Second), time.NewTimer(time.Minute)
	defer startTimer.Stop()
	defer settleTimer.Stop()
	for {
		select {
		case <-startTimer.C:
		case <-settleTimer.C:
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
