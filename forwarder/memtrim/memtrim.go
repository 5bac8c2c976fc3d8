// Package memtrim reduces the memory of a long-running process: it frees garbage, and pages of the executable that only the start
// needed.
package memtrim

import (
	"context"
	"runtime/debug"
	"time"
)

// TrimAfterStart calls Trim after 3 seconds, when the process has started, and again after a minute. It returns at once. Calls
// that are due after ctx is done are not made.
func TrimAfterStart(ctx context.Context) {
	for _, delay := range []time.Duration{3 * time.Second, time.Minute} {
		timer := time.AfterFunc(delay, Trim)
		context.AfterFunc(ctx, func() { timer.Stop() })
	}
}

// Trim returns free memory and the executable's pages to the system. Pages that are needed are mapped again on access, from the
// page cache as a rule.
func Trim() {
	debug.FreeOSMemory()
	dropProgramPages()
}
