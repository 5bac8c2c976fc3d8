package mux

import "time"

// The ssh master queues what a stream sends, limited by the server's window alone, and data of other streams queues behind it.
// Therefore each stream has a delay-based congestion window: no more in flight than keeps the link busy.
const (
	initialCongestionWindow = 512 << 10
	minCongestionWindow     = 256 << 10 // far above sshd's own step: it adjusts the window after some 100 kB
	maxCongestionWindow     = 8 << 20
	minSampleSize           = 128 << 10 // in flight: enough that the server acknowledges it soon
)

// congestionWindow limits how many bytes of a stream are in flight.
type congestionWindow struct {
	inFlight int // bytes sent and not acknowledged by a window adjustment
	limit    int

	isSampling    bool
	unackedSample int // bytes to be acknowledged until the sample, sent last at sampleSentAt, is
	sampleSentAt  time.Time
	minDelay      time.Duration // the least delay of all samples; zero: none yet
}

// available returns how many more bytes may be sent.
func (w *congestionWindow) available() int { return w.limit - w.inFlight }

func (w *congestionWindow) addSent(n int, now time.Time) {
	w.inFlight += n
	if !w.isSampling && w.inFlight >= minSampleSize {
		w.isSampling, w.unackedSample, w.sampleSentAt = true, w.inFlight, now
	}
}

// addAcked records n acknowledged bytes. A sample whose delay is near the least one doubles the limit; one that is far above it has
// waited in a queue, and halves it.
func (w *congestionWindow) addAcked(n int, now time.Time) {
	w.inFlight = max(0, w.inFlight-n)
	if !w.isSampling {
		return
	}
	if w.unackedSample -= n; w.unackedSample > minSampleSize {
		return
	}
	w.isSampling = false
	delay := now.Sub(w.sampleSentAt)
	isFirstSample := w.minDelay == 0
	if isFirstSample || delay < w.minDelay {
		w.minDelay = delay
	}
	switch {
	case isFirstSample: // nothing to compare it with
	case delay <= 2*w.minDelay+20*time.Millisecond:
		w.limit = min(2*w.limit, maxCongestionWindow)
	case delay > 4*w.minDelay+100*time.Millisecond:
		w.limit = max(w.limit/2, minCongestionWindow)
	}
}
