package watch

import "time"

// debouncer tells when a row of events is over: when none has come for a while, or when it has lasted too long.
type debouncer struct {
	interval, maxDelay time.Duration
	first              time.Time // zero: there is none
	timer              *time.Timer
}

func newDebouncer(quiet, latest time.Duration) debouncer {
	b := debouncer{interval: quiet, maxDelay: latest, timer: time.NewTimer(time.Hour)}
	b.timer.Stop()
	return b
}

// extend takes one more event in.
func (b *debouncer) extend() {
	now := time.Now()
	if b.first.IsZero() {
		b.first = now
	}
	b.timer.Reset(min(b.interval, b.first.Add(b.maxDelay).Sub(now)))
}

// firedCh receives when the burst is over; reset makes room for the next.
func (b *debouncer) firedCh() <-chan time.Time { return b.timer.C }

func (b *debouncer) reset() { b.first = time.Time{} }

func (b *debouncer) stop() { b.timer.Stop() }
