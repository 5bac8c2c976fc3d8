package mux

import (
	"sync"
	"time"
)

// A stream's window is what the far side may send before it hears that we have passed it on. It begins small, so that clients
// that do not read cost little, and grows where bytes are passed on as fast as they come: on a long way the window bounds the
// speed. But what comes faster than the ssh master writes it to us, which is 200 kB each time that it looks around, queues there
// in one buffer for all streams, whose growth costs it the square of its size: milliseconds for 2 MB, and half a minute for 30.
// So the streams that much comes for share what a way of its length needs.
const (
	firstWindow = 256 << 10
	leastWindow = 64 << 10
	lastWindow  = 4 << 20
	allWindows  = 2 << 20               // on a way of near's length, and in proportion on a longer one
	near        = 10 * time.Millisecond // there and back
	mostWindows = 32 << 20
	lull        = time.Second // after which a stream is not one of those any more
)

// windows knows for which streams much comes, and how long the way is.
type windows struct {
	mu   sync.Mutex
	busy map[*Stream]time.Time // when each was heard of last
	way  time.Duration         // there and back, at the least; zero: not known
}

// took is told how long it took until a channel was open.
func (w *windows) took(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.way == 0 || d < w.way {
		w.way = d
	}
}

// share is what a stream's window may be, for which much comes just now.
func (w *windows) share(s *Stream, now time.Time) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy == nil {
		w.busy = make(map[*Stream]time.Time)
	}
	w.busy[s] = now
	for other, seen := range w.busy {
		if now.Sub(seen) > lull {
			delete(w.busy, other)
		}
	}
	all := min(int(allWindows*max(1, float64(w.way)/float64(near))), mostWindows)
	return max(leastWindow, min(lastWindow, all/len(w.busy)))
}

// forget is told of a stream that has ended.
func (w *windows) forget(s *Stream) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.busy, s)
}
