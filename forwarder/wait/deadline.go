package wait

import (
	"sync"
	"time"
)

// Deadline is a time at which waits on a sync.Cond end. The zero Deadline never passes. The cond's lock must be held when a method is
// called, and the Deadline be stopped in the end.
type Deadline struct {
	at    time.Time
	timer *time.Timer
}

// Set sets the time and wakes the waits on cond, now and when it has come; the zero time means never.
func (d *Deadline) Set(at time.Time, cond *sync.Cond) {
	d.Stop()
	d.at = at
	if !at.IsZero() {
		d.timer = time.AfterFunc(time.Until(at), func() {
			cond.L.Lock()
			defer cond.L.Unlock()
			cond.Broadcast()
		})
	}
	cond.Broadcast()
}

// HasPassed reports whether the time has come.
func (d *Deadline) HasPassed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// Stop releases the timer. The time stays set.
func (d *Deadline) Stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
}
