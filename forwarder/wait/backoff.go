package wait

import (
	"math"
	"math/rand/v2"
	"time"
)

// Backoff is the delay between attempts that fail in a row, which grows exponentially. Its fields may be changed at any time. Next
// and Reset are not safe for concurrent use; After is.
type Backoff struct {
	First  time.Duration // after the first failure
	Max    time.Duration // no delay is longer
	Factor float64       // by which the delay grows with each failure; 0 stands for 2
	Jitter float64       // how much of each delay is taken off at random, at most: 0.25 is up to a quarter of it

	failures int
}

// Next notes a failure and returns how long to wait before the next attempt.
func (b *Backoff) Next() time.Duration {
	b.failures++
	return b.After(b.failures)
}

// Reset notes a success: Next returns the first delay again.
func (b *Backoff) Reset() { b.failures = 0 }

// After returns how long to wait after a number of failures in a row, for a caller that counts them itself: 0 after none.
func (b *Backoff) After(failures int) time.Duration {
	if failures < 1 || b.First <= 0 || b.Max <= 0 {
		return 0
	}
	factor := b.Factor
	if factor == 0 {
		factor = 2
	}
	delay := b.Max
	if grown := float64(b.First) * math.Pow(factor, float64(failures-1)); grown < float64(b.Max) { // it may be infinite
		delay = time.Duration(grown)
	}
	return TakeOff(delay, b.Jitter)
}

// TakeOff shortens a delay at random by up to a part of it, between 0 and 1, so that what began together does not go on together.
func TakeOff(delay time.Duration, part float64) time.Duration {
	most := time.Duration(float64(delay) * part)
	if most <= 0 {
		return delay
	}
	return delay - rand.N(most+1)
}
