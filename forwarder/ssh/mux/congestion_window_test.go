package mux

import (
	"testing"
	"time"
)

// simulatedLink is a link with a one-way delay and a rate in bytes a second, whose receiver acknowledges in steps, as sshd does.
type simulatedLink struct {
	delay time.Duration
	rate  int
}

// transfer sends as much as the window allows for a duration of simulated time, and returns the rate and the longest queue.
func (link simulatedLink) transfer(window *congestionWindow, duration time.Duration) (rate int, maxQueue time.Duration) {
	const ackSize = 96 << 10
	type packet struct {
		n  int
		at time.Time
	}
	start := time.Unix(0, 0)
	now, idleAt := start, start
	var inTransit []packet
	unacked, total := 0, 0
	for now.Sub(start) < duration {
		for window.available() > 0 {
			n := min(window.available(), maxPacketSize)
			window.addSent(n, now)
			if idleAt.Before(now) {
				idleAt = now
			}
			idleAt = idleAt.Add(time.Duration(n) * time.Second / time.Duration(link.rate))
			maxQueue = max(maxQueue, idleAt.Sub(now))
			inTransit = append(inTransit, packet{n, idleAt.Add(link.delay)})
		}
		now = inTransit[0].at
		if unacked += inTransit[0].n; unacked > ackSize {
			window.addAcked(unacked, now)
			unacked = 0
		}
		total += inTransit[0].n
		inTransit = inTransit[1:]
	}
	return int(float64(total) / now.Sub(start).Seconds()), maxQueue
}

func TestCongestionWindow_FillsLongLinksWithoutQueueOnSlowOnes(t *testing.T) {
	for _, tt := range []struct {
		name     string
		link     simulatedLink
		minShare float64       // of the link's rate
		maxQueue time.Duration // that other streams wait behind this one
	}{
		{"fast link, low delay", simulatedLink{time.Millisecond, 500 << 20}, 0.9, 100 * time.Millisecond},
		{"fast link, high delay", simulatedLink{100 * time.Millisecond, 20 << 20}, 0.9, time.Second},
		{"slow link", simulatedLink{20 * time.Millisecond, 1 << 20}, 0.9, time.Second},
	} {
		window := &congestionWindow{limit: initialCongestionWindow}
		rate, queue := tt.link.transfer(window, 20*time.Second)
		if float64(rate) < tt.minShare*float64(tt.link.rate) || queue > tt.maxQueue {
			t.Errorf("%s: %d of %d kB/s, %v in the queue", tt.name, rate>>10, tt.link.rate>>10, queue)
		}
		t.Logf("%s: %d of %d kB/s, up to %v in the queue, %d kB in flight", tt.name, rate>>10, tt.link.rate>>10, queue, window.limit>>10)
	}
}
