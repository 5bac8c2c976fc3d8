package wait_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/localport-sh/localport/forwarder/wait"
)

func TestAlignDelay_EndsTogetherWithOthersAfterSome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wait.SetPhase(time.Now().Add(1234 * time.Millisecond))
		defer wait.SetPhase(time.Time{})
		for range 20 { // series that begin at any moment
			end := time.Now()
			for range 10 {
				delay := wait.AlignDelay(30 * time.Second)
				if delay < 27*time.Second || delay > 30*time.Second {
					t.Errorf("a delay of %v", delay)
				}
				time.Sleep(delay)
				end = time.Now()
			}
			if off := end.Sub(end.Truncate(30 * time.Second)); off != 1234*time.Millisecond {
				t.Errorf("the end is %v after the half minute", off)
			}
			time.Sleep(17*time.Second + 17*time.Millisecond)
		}
	})
}

func TestAlignDelay_KeepsTheIntervalOfASeries(t *testing.T) {
	for _, delay := range []time.Duration{time.Second, 7 * time.Second, 30 * time.Second, 45 * time.Second, time.Minute, 90 * time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			wait.SetPhase(time.Now())
			defer wait.SetPhase(time.Time{})
			for range 3 {
				before := time.Now()
				time.Sleep(3 * time.Millisecond) // what is done at the end
				time.Sleep(wait.AlignDelay(delay))
				if took := time.Since(before); took != delay {
					t.Errorf("%v instead of %v", took, delay)
				}
			}
		})
	}
}

func TestAlignDelay_ReturnsOtherDelaysAsTheyAre(t *testing.T) {
	for _, delay := range []time.Duration{-time.Second, 0, 5 * time.Millisecond, 1500 * time.Millisecond} {
		if got := wait.AlignDelay(delay); got != delay {
			t.Errorf("%v instead of %v", got, delay)
		}
	}
}
