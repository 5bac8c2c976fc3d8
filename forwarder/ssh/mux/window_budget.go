package mux

import (
	"sync"
	"time"
)

// A stream's receive window is what the server may send before we acknowledge it. It starts small, so that clients that do not read
// cost little memory, and grows while bytes are read as fast as they arrive, because window / RTT bounds the throughput. But the
// ssh master buffers what arrives faster than it writes to us (200 kB in each turn of its loop), in one buffer for all streams
// whose growth takes time in the square of its size: milliseconds for 2 MB, half a minute for 30 MB. Therefore the busy streams
// share a budget that is proportional to the RTT.
const (
	initialWindow    = 256 << 10
	minWindow        = 64 << 10
	maxWindow        = 4 << 20
	baseWindowBudget = 2 << 20 // at an RTT of baseRTT or less, and in proportion above it
	baseRTT          = 10 * time.Millisecond
	maxWindowBudget  = 32 << 20
	busyTimeout      = time.Second // without a request for a share, after which a stream is no longer busy
)

// windowBudget divides the receive window budget of a Conn among its busy streams.
type windowBudget struct {
	mu       sync.Mutex
	lastBusy map[*Stream]time.Time // when each asked for its share last
	minRTT   time.Duration         // zero: not measured yet
}

// addRTT records how long the server took to open a channel.
func (b *windowBudget) addRTT(rtt time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.minRTT == 0 || rtt < b.minRTT {
		b.minRTT = rtt
	}
}

// minimumRTT returns the shortest recorded time; 0 if there is none.
func (b *windowBudget) minimumRTT() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.minRTT
}

// streamShare marks a stream as busy and returns how many bytes its receive window may have.
func (b *windowBudget) streamShare(s *Stream, now time.Time) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lastBusy == nil {
		b.lastBusy = make(map[*Stream]time.Time)
	}
	b.lastBusy[s] = now
	for other, busyAt := range b.lastBusy {
		if now.Sub(busyAt) > busyTimeout {
			delete(b.lastBusy, other)
		}
	}
	total := min(int(baseWindowBudget*max(1, float64(b.minRTT)/float64(baseRTT))), maxWindowBudget)
	return max(minWindow, min(maxWindow, total/len(b.lastBusy)))
}

// removeStream removes a stream that has ended.
func (b *windowBudget) removeStream(s *Stream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.lastBusy, s)
}
