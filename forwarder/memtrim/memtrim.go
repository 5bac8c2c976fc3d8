// Package memtrim makes a process that lives for days let go of what only its start needed: garbage, and the pages of the program
// that its initialisation went through.
package memtrim

import (
	"context"
	"runtime/debug"
	"time"
)

// After trims the process some seconds from now, when its start is over, and once more when it has settled. It returns at
// once; what is left to do ends with the context.
func After(ctx context.Context) {
	for _, delay := range []time.Duration{3 * time.Second, time.Minute} {
		timer := time.AfterFunc(delay, Trim)
		context.AfterFunc(ctx, func() { timer.Stop() })
	}
}

// Trim gives back what the process does not need at the moment. Pages of the program that it does need come back by
// themselves, from memory that the system has anyway.
func Trim() {
	debug.FreeOSMemory()
	unmap()
}
