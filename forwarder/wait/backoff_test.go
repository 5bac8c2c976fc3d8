package wait_test

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/localport-sh/localport/forwarder/wait"
)

func TestBackoff_GrowsFromFirstToMax(t *testing.T) {
	for name, c := range map[string]struct {
		backoff wait.Backoff
		want    []time.Duration // in milliseconds
	}{
		"doubled":       {wait.Backoff{First: 100 * time.Millisecond, Max: 500 * time.Millisecond}, []time.Duration{100, 200, 400, 500, 500}},
		"tripled":       {wait.Backoff{First: time.Millisecond, Max: time.Second, Factor: 3}, []time.Duration{1, 3, 9, 27, 81, 243, 729, 1000}},
		"constant":      {wait.Backoff{First: time.Second, Max: time.Minute, Factor: 1}, []time.Duration{1000, 1000, 1000}},
		"above maximum": {wait.Backoff{First: time.Minute, Max: time.Second}, []time.Duration{1000, 1000}},
		"none":          {wait.Backoff{}, []time.Duration{0, 0}},
	} {
		for range 2 {
			for i, want := range c.want {
				if got := c.backoff.Next(); got != want*time.Millisecond {
					t.Errorf("%s: delay %d is %v, want %v", name, i+1, got, want*time.Millisecond)
				}
			}
			c.backoff.Reset()
		}
	}
}

func TestBackoff_DelayIsZeroWithoutFailures(t *testing.T) {
	b := wait.Backoff{First: time.Second, Max: time.Minute}
	for _, failures := range []int{0, -1, math.MinInt} {
		if got := b.After(failures); got != 0 {
			t.Errorf("%v after %d failures", got, failures)
		}
	}
}

func TestBackoff_DelayStaysWithinBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := wait.Backoff{
			First:  time.Duration(rapid.Int64Range(1, math.MaxInt64).Draw(t, "first")),
			Max:    time.Duration(rapid.Int64Range(1, math.MaxInt64).Draw(t, "max")),
			Factor: rapid.Float64Range(1, 1e9).Draw(t, "factor"),
			Jitter: 0.25,
		}
		failures := rapid.IntRange(1, math.MaxInt).Draw(t, "failures")
		full := wait.Backoff{First: b.First, Max: b.Max, Factor: b.Factor}
		withoutJitter, got := full.After(failures), b.After(failures)
		if withoutJitter > b.Max || withoutJitter < min(full.After(1), b.Max) {
			t.Fatalf("delay after %d failures of %+v: %v without jitter", failures, full, withoutJitter)
		}
		if got <= 0 || got > withoutJitter {
			t.Fatalf("delay after %d failures of %+v: %v of %v", failures, b, got, withoutJitter)
		}
		// A float64 has 53 bits of a duration's 63.
		if least := withoutJitter - withoutJitter/4 - withoutJitter>>52 - 1; got < least {
			t.Fatalf("delay after %d failures of %+v: %v, less than %v", failures, b, got, least)
		}
		if before := full.After(failures - 1); before > withoutJitter {
			t.Fatalf("delay after %d failures of %+v: %v, and %v before", failures, full, withoutJitter, before)
		}
	})
}

func TestBackoff_NextCountsFailuresSinceReset(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := wait.Backoff{First: time.Millisecond, Max: time.Minute, Factor: rapid.Float64Range(1, 4).Draw(t, "factor")}
		failures := 0
		for _, failed := range rapid.SliceOf(rapid.Bool()).Draw(t, "failed") {
			if !failed {
				b.Reset()
				failures = 0
				continue
			}
			failures++
			if got, want := b.Next(), b.After(failures); got != want {
				t.Fatalf("failure %d: %v, want %v", failures, got, want)
			}
		}
	})
}

func TestSubtractJitter_SpreadsDelaysEvenly(t *testing.T) {
	const tries = 1000
	var least, most, sum time.Duration = time.Hour, 0, 0
	for range tries {
		d := wait.SubtractJitter(time.Second, 0.5)
		least, most, sum = min(least, d), max(most, d), sum+d
	}
	if least < 500*time.Millisecond || most > time.Second {
		t.Errorf("delays from %v to %v", least, most)
	}
	// The mean of so many is 750 ms, with a standard deviation of 4.6 ms.
	if mean := sum / tries; mean < 700*time.Millisecond || mean > 800*time.Millisecond {
		t.Errorf("the mean is %v", mean)
	}
	for _, d := range []time.Duration{0, -time.Second, 1} {
		if got := wait.SubtractJitter(d, 0.25); got != d {
			t.Errorf("%v became %v", d, got)
		}
	}
}
