package wait

import (
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// Backoff computes the exponential delay between attempts that fail in a row. Its fields may be changed between calls. Next and
// Reset are not safe for concurrent use; After is.
type Backoff struct {
	First  time.Duration // after the first failure
	Max    time.Duration // the longest delay
	Factor float64       // by which the delay grows with each failure; 0 means 2
	Jitter float64       // the largest part of a delay that is subtracted at random: 0.25 is up to a quarter

	failures int
}

// Next counts a failure and returns the delay before the next attempt.
func (b *Backoff) Next() time.Duration {
	b.failures++
	return b.After(b.failures)
}

// Reset is called after a success: Next returns the first delay again.
func (b *Backoff) Reset() { b.failures = 0 }

// After returns the delay after a number of failures in a row, for a caller that counts them itself; 0 after none.
func (b *Backoff) After(failures int) time.Duration {
	if failures < 1 || b.First <= 0 || b.Max <= 0 {
		return 0
	}
	factor := b.Factor
	if factor == 0 {
		factor = 2
	}
	delay := b.Max
	if exact := float64(b.First) * math.Pow(factor, float64(failures-1)); exact < float64(b.Max) { // exact may be infinite
		delay = time.Duration(exact)
	}
	return SubtractJitter(delay, b.Jitter)
}

// randomPart returns a random duration from 0 to max, unless SimulateJitter has replaced it.
var randomPart atomic.Pointer[func(maxPart time.Duration) time.Duration]

// SimulateJitter replaces the random part that SubtractJitter subtracts, for tests that must be reproducible. part returns a duration from
// 0 to max. AlignDelay aligns nothing meanwhile. The caller calls restore in the end.
func SimulateJitter(part func(maxPart time.Duration) time.Duration) (restore func()) {
	randomPart.Store(&part)
	return func() { randomPart.Store(nil) }
}

// SubtractJitter subtracts a random part of a delay, at most the given one (0 to 1), so that attempts that began at the same time
// spread out.
func SubtractJitter(delay time.Duration, maxPart float64) time.Duration {
	maxJitter := time.Duration(float64(delay) * maxPart)
	if maxJitter <= 0 {
		return delay
	}
	if part := randomPart.Load(); part != nil {
		return delay - (*part)(maxJitter)
	}
	return delay - rand.N(maxJitter+1)
}
