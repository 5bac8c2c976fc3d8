package service

import (
	"maps"
	"sync"

	"github.com/localport-sh/localport/forwarder/metrics"
)

// Figures are what a service has counted since it was made.
type Figures struct {
	Latencies *metrics.Histogram // of the checks
	Checks    map[string]uint64  // by result
	Restarts  map[string]uint64  // by reason
}

// figures count what a service goes through. They are safe for concurrent use.
type figures struct {
	latencies metrics.Histogram

	mu       sync.Mutex // guards the maps
	checks   map[string]uint64
	restarts map[string]uint64
}

func (f *figures) countCheck(r checkOutcome) {
	f.latencies.Observe(r.took)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.checks == nil {
		f.checks = make(map[string]uint64)
	}
	f.checks[checkResult(r.err)]++
}

func (f *figures) countRestart(reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.restarts == nil {
		f.restarts = make(map[string]uint64)
	}
	f.restarts[reason]++
}

// Figures are what the service has counted so far.
func (s *Service) Figures() Figures {
	f := &s.figures
	f.mu.Lock()
	defer f.mu.Unlock()
	return Figures{&f.latencies, maps.Clone(f.checks), maps.Clone(f.restarts)}
}
