// Package memtrim reduces the memory of a long-running process: it frees garbage, and pages of the executable that only the start
// needed.
package memtrim

import (
	"context"
	"math"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/localport-sh/localport/forwarder/wait"
)

// A Trim costs a garbage collection, and page faults afterwards.
const (
	minGrowth = 1 << 20 // Trim is called only if the runtime has this many bytes more than the least that a Trim has left
	maxPause  = 16      // the most intervals between two Trims if the last ones have returned nothing, because the memory is in use
)

// Run calls Trim after 3 seconds, when the process has started, and again after a minute. If interval is not 0, Run then checks at each interval
// whether the runtime has more memory than a Trim has left, for example after many clients, and calls Trim again if so. It returns only when ctx is done: a
// goroutine that ended after the last Trim would map the pages again that its end executes (0.3 MB).
func Run(ctx context.Context, interval time.Duration) {
	startTimer, settleTimer := time.NewTimer(3*time.Second), time.NewTimer(time.Minute)
	defer startTimer.Stop()
	defer settleTimer.Stop()
	least := uint64(math.MaxUint64)
	for _, ch := range []<-chan time.Time{startTimer.C, settleTimer.C} {
		select {
		case <-ch:
			Trim()
			least = min(least, runtimeMemory())
		case <-ctx.Done():
			return
		}
	}
	if interval == 0 {
		<-ctx.Done()
		return
	}
	trimAtIntervals(ctx, interval, least)
}

// trimAtIntervals is the part of Run that begins after the start. least is the least memory that a Trim has left so far, in bytes.
func trimAtIntervals(ctx context.Context, interval time.Duration, least uint64) {
	timer := wait.NewLongTimer(wait.AlignDelay(interval))
	defer timer.Stop()
	last, pause, passed := least, 1, 0 // after the last Trim: the memory, the intervals until the next one, and those that have passed
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		timer.Reset(wait.AlignDelay(interval))
		before := runtimeMemory()
		passed++
		if before < least+minGrowth || before < last+minGrowth && passed < pause {
			continue
		}
		Trim()
		last, passed = runtimeMemory(), 0
		least = min(least, last)
		if last+minGrowth < before {
			pause = 1
		} else {
			pause = min(2*pause, maxPause)
		}
	}
}

// runtimeMemory returns how much memory the Go runtime has obtained from the system and not returned, in bytes.
func runtimeMemory() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.Sys - stats.HeapReleased
}

// Trim returns free memory and the executable's pages to the system. Pages that are needed are mapped again on access, from the
// page cache as a rule.
func Trim() {
	debug.FreeOSMemory()
	dropProgramPages()
}
