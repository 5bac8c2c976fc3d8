package wait

import (
	"sync"
	"sync/atomic"
	"time"
)

// LongTimer is a time.Timer for delays of seconds and more. After UseSystemTimer, the process has the kernel wake it for all its LongTimers by one timerfd
// (Linux). For a timer of package time, the Go runtime wakes two threads: its monitor, at the very end, and the one that waits in epoll_wait, whose
// timeouts the kernel lets end up to a thousandth later. Meanwhile the monitor polls: after half a minute, 25 ms with some 60 context switches.
type LongTimer struct {
	C <-chan time.Time // receives when the delay is over; after Reset or Stop, nothing of an earlier delay

	timer *time.Timer  // nil if clock is used
	clock *systemClock // nil if timer is used
	ch    chan time.Time
}

// clock is what new LongTimers use; nil: timers of package time.
var clock atomic.Pointer[systemClock]

// UseSystemTimer has new LongTimers use a timer of the kernel, if there is one. It is called by programs that are idle for long, and not by tests, whose
// clock may be simulated.
func UseSystemTimer() {
	if c, err := newSystemClock(); err == nil && !clock.CompareAndSwap(nil, c) {
		c.timer.close()
	}
}

// NewLongTimer returns a timer that has been started.
func NewLongTimer(delay time.Duration) *LongTimer {
	c := clock.Load()
	if c == nil {
		timer := time.NewTimer(delay)
		return &LongTimer{C: timer.C, timer: timer}
	}
	t := &LongTimer{clock: c, ch: make(chan time.Time, 1)}
	t.C = t.ch
	c.reset(t, delay)
	return t
}

// Reset starts the timer again.
func (t *LongTimer) Reset(delay time.Duration) {
	if t.timer != nil {
		t.timer.Reset(delay)
		return
	}
	t.clock.reset(t, delay)
}

// Stop ends the timer until the next Reset.
func (t *LongTimer) Stop() {
	if t.timer != nil {
		t.timer.Stop()
		return
	}
	t.clock.stop(t)
}

// clockSlack is how much later than its end a LongTimer may fire, so that others fire with it.
const clockSlack = 2 * time.Millisecond

// systemClock fires LongTimers by one timer of the kernel.
type systemClock struct {
	timer   systemTimer
	startAt time.Time

	mu      sync.Mutex                   // guards the fields below
	ends    map[*LongTimer]time.Duration // since startAt
	armedAt time.Duration                // when timer expires; 0: it does not
}

func newSystemClock() (*systemClock, error) {
	c := &systemClock{startAt: time.Now(), ends: map[*LongTimer]time.Duration{}}
	if err := c.timer.open(); err != nil {
		return nil, err
	}
	go c.timer.read(c.fire)
	return c, nil
}

func (c *systemClock) reset(t *LongTimer, delay time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	tryDrain(t.ch)
	if delay <= 0 {
		delete(c.ends, t)
		t.ch <- time.Now()
	} else {
		c.ends[t] = time.Since(c.startAt) + delay
	}
	c.armLocked()
}

func (c *systemClock) stop(t *LongTimer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	tryDrain(t.ch)
	delete(c.ends, t)
	c.armLocked()
}

// fire fires every timer whose delay is over.
func (c *systemClock) fire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Since(c.startAt)
	for t, end := range c.ends {
		if end <= now {
			delete(c.ends, t)
			t.ch <- time.Now() // it is empty: see reset and stop
		}
	}
	c.armedAt = 0
	c.armLocked()
}

// armLocked has the kernel's timer expire when the first delay is over, and a little later, for callers that have locked c.mu. A timer that would expire
// for a delay that was stopped is left alone.
func (c *systemClock) armLocked() {
	first := time.Duration(0)
	for _, end := range c.ends {
		if first == 0 || end < first {
			first = end
		}
	}
	if first == 0 || c.armedAt != 0 && c.armedAt <= first+clockSlack {
		return
	}
	c.armedAt = first + clockSlack
	c.timer.set(max(c.armedAt-time.Since(c.startAt), 1))
}

func tryDrain(ch <-chan time.Time) {
	select {
	case <-ch:
	default:
	}
}
