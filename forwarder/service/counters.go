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

func (c *counters) countCheck(r checkResult) {
	c.checkTimes.Observe(r.duration)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checksByResult[resultLabel(r.err)]++
}

func (c *counters) countRestart(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.restartsByReason[reason]++
}

// Counters returns the counts so far.
func (s *Service) Counters() Counters {
	c := &s.counters
	c.mu.Lock()
	defer c.mu.Unlock()
	return Counters{&c.checkTimes, maps.Clone(c.checksByResult), maps.Clone(c.restartsByReason)}
}
