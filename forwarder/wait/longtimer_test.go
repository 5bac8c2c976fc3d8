package wait

import (
	"testing"
	"time"
)

// testClock returns the clock of a process that has called UseSystemTimer, until the test ends.
func testClock(t *testing.T) *systemClock {
	t.Helper()
	c, err := newSystemClock()
	if err != nil {
		t.Skipf("no timer of the kernel: %v", err)
	}
	clock.Store(c)
	t.Cleanup(func() {
		clock.Store(nil)
		c.timer.close()
	})
	return c
}

func waitForEnd(t *testing.T, timer *LongTimer) time.Time {
	t.Helper()
	select {
	case end := <-timer.C:
		return end
	case <-time.After(30 * time.Second):
		t.Fatal("the timer did not fire")
		return time.Time{}
	}
}

func TestLongTimer_FiresAfterItsDelay(t *testing.T) {
	testClock(t)
	start := time.Now()
	timer := NewLongTimer(time.Hour)
	defer timer.Stop()
	for _, delay := range []time.Duration{20 * time.Millisecond, 0, -time.Second, time.Nanosecond, 10 * time.Millisecond} {
		before := time.Now()
		timer.Reset(delay)
		if end := waitForEnd(t, timer); end.Sub(before) < delay {
			t.Errorf("a delay of %v ended after %v", delay, end.Sub(before))
		}
	}
	later, sooner := NewLongTimer(20*time.Millisecond), NewLongTimer(10*time.Millisecond)
	if end := waitForEnd(t, later); end.Sub(start) < 20*time.Millisecond {
		t.Error("fired too early")
	}
	waitForEnd(t, sooner)
}

func TestLongTimer_ReceivesNothingOfAnEarlierDelay(t *testing.T) {
	c := testClock(t)
	timer := NewLongTimer(0)
	timer.Stop()
	timer.Reset(0)
	timer.Reset(time.Hour)
	select {
	case <-timer.C:
		t.Error("fired after Reset")
	default:
	}
	timer.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ends) > 0 {
		t.Errorf("%d timers run", len(c.ends))
	}
}

// Timers that end at almost the same time are one wake of the process.
func TestLongTimer_FiresTogetherWithOthers(t *testing.T) {
	c := testClock(t)
	const delay = 50 * time.Millisecond
	var timers []*LongTimer
	c.mu.Lock() // all of them begin before the kernel's timer is set
	start := time.Since(c.startAt)
	for n := range 20 {
		timer := &LongTimer{clock: c, ch: make(chan time.Time, 1)}
		timer.C = timer.ch
		timers = append(timers, timer)
		c.ends[timer] = start + delay + time.Duration(n)*time.Microsecond
	}
	c.armLocked()
	if c.armedAt < start+delay+20*time.Microsecond {
		t.Error("the last timer would be fired by another expiry")
	}
	c.mu.Unlock()
	for _, timer := range timers {
		waitForEnd(t, timer)
	}
}

func TestLongTimer_WithoutASystemTimerIsATimer(t *testing.T) {
	timer := NewLongTimer(0)
	waitForEnd(t, timer)
	timer.Reset(time.Millisecond)
	waitForEnd(t, timer)
	timer.Stop()
}
