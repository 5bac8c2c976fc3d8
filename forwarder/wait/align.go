package wait

import (
	"sync/atomic"
	"time"
)

// steps are whole parts of a minute: two delays that the same step divides end together again and again.
var steps = [...]time.Duration{
	time.Minute, 30 * time.Second, 20 * time.Second, 15 * time.Second, 12 * time.Second, 10 * time.Second, 6 * time.Second, 5 * time.Second,
	4 * time.Second, 3 * time.Second, 2 * time.Second, time.Second,
}

// phase is by how many nanoseconds after a full minute the delays of this process end.
var phase atomic.Int64

// SetPhase has aligned delays end at the given time, and whole parts of a minute before and after it. Processes have different ones, or all that use a
// server would ask it at the same moment.
func SetPhase(t time.Time) { phase.Store(t.UnixNano() % int64(time.Minute)) }

// AlignDelay returns the given delay, or one that is shorter by at most a tenth. In a series of delays, the ends come to be those of other series, so
// that a process that does nothing else wakes once for all of them. A delay that is no whole number of seconds is returned as it is, and so is every delay
// while the jitter is simulated: a simulation must not have two things happen at the same moment.
func AlignDelay(delay time.Duration) time.Duration {
	if randomPart.Load() != nil {
		return delay
	}
	for _, step := range steps {
		if delay > 0 && delay%step == 0 {
			excess := (time.Now().UnixNano() + int64(delay) - phase.Load()) % int64(step)
			return delay - min(time.Duration(excess), delay/10)
		}
	}
	return delay
}
