package watch

import "time"

// debouncer fires once after a burst of events: an interval after the last one, but at most maxDelay after the first.
type debouncer struct {
	interval, maxDelay time.Duration
	first              time.Time // of the burst; zero: there is none
	timer              *time.Timer
}

func newDebouncer(interval, maxDelay time.Duration) debouncer {
	b := debouncer{interval: interval, maxDelay: maxDelay, timer: time.NewTimer(time.Hour)}
	b.timer.Stop()
	return b
}

// extend adds an event to the burst.
func (b *debouncer) extend() {
	now := time.Now()
	if b.first.IsZero() {
		b.first = now
	}
	b.timer.Reset(min(b.interval, b.first.Add(b.maxDelay).Sub(now)))
}

// firedCh receives when the burst is over; then call reset.
func (b *debouncer) firedCh() <-chan time.Time { return b.timer.C }

func (b *debouncer) reset() { b.first = time.Time{} }

func (b *debouncer) stop() { b.timer.Stop() }
