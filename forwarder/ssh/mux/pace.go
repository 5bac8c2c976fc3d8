package mux

import "time"

// What a stream sends queues in the ssh master, without limit but that of the far side's window, and whatever is sent on other
// streams queues behind it. So a stream has no more on its way than keeps the line busy: the time that it takes to arrive tells.
const (
	firstFlight = 512 << 10
	leastFlight = 256 << 10 // far more than sshd takes before it says so, which is after some 100 kB
	lastFlight  = 8 << 20
	bulk        = 128 << 10 // on the way: enough to be told of soon
)

// pace is how much of a stream is on its way, and may be.
type pace struct {
	flight int // bytes sent that the far side has not told of
	limit  int

	marked  bool
	mark    int           // bytes on the way until what was sent last at began has arrived
	began   time.Time     // when that was sent
	fastest time.Duration // that it ever took
}

// room is how much more may be sent.
func (p *pace) room() int { return p.limit - p.flight }

func (p *pace) sent(n int, now time.Time) {
	p.flight += n
	if !p.marked && p.flight >= bulk {
		p.marked, p.mark, p.began = true, p.flight, now
	}
}

// arrived notes what the far side has taken. Where that took about as long as ever, there is room for more; where it took far
// longer, it has waited in a queue.
func (p *pace) arrived(n int, now time.Time) {
	p.flight = max(0, p.flight-n)
	if !p.marked {
		return
	}
	if p.mark -= n; p.mark > bulk {
		return
	}
	p.marked = false
	took := now.Sub(p.began)
	first := p.fastest == 0
	if first || took < p.fastest {
		p.fastest = took
	}
	switch {
	case first: // it may have waited in a queue, or not
	case took <= 2*p.fastest+20*time.Millisecond:
		p.limit = min(2*p.limit, lastFlight)
	case took > 4*p.fastest+100*time.Millisecond:
		p.limit = max(p.limit/2, leastFlight)
	}
}
