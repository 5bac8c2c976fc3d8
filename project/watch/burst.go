package watch

import "time"

// burst tells when a row of events is over: when none has come for a while, or when it has lasted too long.
type burst struct {
	quiet, latest time.Duration
	first         time.Time // zero: there is none
	timer         *time.Timer
}

func newBurst(quiet, latest time.Duration) burst {
	b := burst{quiet: quiet, latest: latest, timer: time.NewTimer(time.Hour)}
	b.timer.Stop()
	return b
}

// extend takes one more event in.
func (b *burst) extend() {
	now := time.Now()
	if b.first.IsZero() {
		b.first = now
	}
	b.timer.Reset(min(b.quiet, b.first.Add(b.latest).Sub(now)))
}

// over receives when the burst is over; reset makes room for the next.
func (b *burst) over() <-chan time.Time { return b.timer.C }

func (b *burst) reset() { b.first = time.Time{} }

func (b *burst) stop() { b.timer.Stop() }
