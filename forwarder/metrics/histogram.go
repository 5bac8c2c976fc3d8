package metrics

import (
	"sync/atomic"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
)

// bucketBounds are the upper bounds of a histogram's buckets; one more bucket has none.
var bucketBounds = [...]time.Duration{
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// Histogram counts durations in buckets from a millisecond to ten seconds. The zero value is empty. It is safe for concurrent
// use, and Observe does not allocate.
type Histogram struct {
	counts [len(bucketBounds) + 1]atomic.Uint64
	sum    atomic.Int64 // nanoseconds
}

// Observe counts one duration; a negative one counts as zero.
func (h *Histogram) Observe(d time.Duration) {
	d = max(d, 0)
	i := 0
	for i < len(bucketBounds) && d > bucketBounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

// Snapshot returns the current counts. A duration that is observed concurrently may be in the counts and not yet in the sum.
func (h *Histogram) Snapshot() *api.Histogram {
	s := &api.Histogram{Bounds: make([]float64, len(bucketBounds)), Counts: make([]uint64, len(h.counts))}
	s.Sum = time.Duration(h.sum.Load()).Seconds()
	for i, bound := range bucketBounds {
		s.Bounds[i] = bound.Seconds()
	}
	for i := range h.counts {
		s.Counts[i] = h.counts[i].Load()
	}
	return s
}
