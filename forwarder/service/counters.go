package service

import (
	"maps"
	"sync"

	"github.com/localport-sh/localport/forwarder/metrics"
)

// Counters are a service's counts since it was made.
type Counters struct {
	CheckTimes       *metrics.Histogram
	ChecksByResult   map[string]uint64
	RestartsByReason map[string]uint64
}

// counters is safe for concurrent use.
type counters struct {
	checkTimes metrics.Histogram

	mu               sync.Mutex // guards the maps
	checksByResult   map[string]uint64
	restartsByReason map[string]uint64
}

func (f *counters) countCheck(r checkOutcome) {
	f.checkTimes.Observe(r.duration)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.checksByResult == nil {
		f.checksByResult = make(map[string]uint64)
	}
	f.checksByResult[resultLabel(r.err)]++
}

func (f *counters) countRestart(reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.restartsByReason == nil {
		f.restartsByReason = make(map[string]uint64)
	}
	f.restartsByReason[reason]++
}

// Counters returns the counts so far.
func (s *Service) Counters() Counters {
	f := &s.counters
	f.mu.Lock()
	defer f.mu.Unlock()
	return Counters{&f.checkTimes, maps.Clone(f.checksByResult), maps.Clone(f.restartsByReason)}
}
