package mux

import (
	"testing"
	"time"
)

// line is a way that takes a time and carries so many bytes a second; the far side tells of what has come, as sshd does, some
// of it at a time.
type line struct {
	delay time.Duration
	rate  int
}

// run sends as much as the pace allows for a while of the line's own time, and returns the rate and the longest queue.
func (l line) run(p *pace, during time.Duration) (rate int, queue time.Duration) {
	const told = 96 << 10
	type parcel struct {
		n  int
		at time.Time
	}
	begin := time.Unix(0, 0)
	now, free := begin, begin
	var way []parcel
	unsaid, total := 0, 0
	for now.Sub(begin) < during {
		for p.room() > 0 {
			n := min(p.room(), maxData)
			p.sent(n, now)
			if free.Before(now) {
				free = now
			}
			free = free.Add(time.Duration(n) * time.Second / time.Duration(l.rate))
			queue = max(queue, free.Sub(now))
			way = append(way, parcel{n, free.Add(l.delay)})
		}
		now = way[0].at
		if unsaid += way[0].n; unsaid > told {
			p.arrived(unsaid, now)
			unsaid = 0
		}
		total += way[0].n
		way = way[1:]
	}
	return int(float64(total) / now.Sub(begin).Seconds()), queue
}

func TestALongWayIsFilledAndASlowOneNotFlooded(t *testing.T) {
	for _, tt := range []struct {
		name  string
		line  line
		least float64       // of the line's rate
		most  time.Duration // that others wait behind the stream
	}{
		{"a fast line near by", line{time.Millisecond, 500 << 20}, 0.9, 100 * time.Millisecond},
		{"a fast line far away", line{100 * time.Millisecond, 20 << 20}, 0.9, time.Second},
		{"a slow line", line{20 * time.Millisecond, 1 << 20}, 0.9, time.Second},
	} {
		p := &pace{limit: firstFlight}
		rate, queue := tt.line.run(p, 20*time.Second)
		if float64(rate) < tt.least*float64(tt.line.rate) || queue > tt.most {
			t.Errorf("%s: %d of %d kB/s, %v in the queue", tt.name, rate>>10, tt.line.rate>>10, queue)
		}
		t.Logf("%s: %d of %d kB/s, up to %v in the queue, %d kB on the way", tt.name, rate>>10, tt.line.rate>>10, queue, p.limit>>10)
	}
}
