package relay

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// pace is how long the relay waits for what.
type pace struct {
	settle time.Duration // for a report after an early end; and so long a connection stays open to count as well
	first  time.Duration // between two attempts after a refusal; doubles
	last   time.Duration // and grows no further
}

var usual = pace{settle: time.Second, first: 100 * time.Millisecond, last: time.Second}

// link is a tunnel as the relay sees it, from Attach until the tunnel is done. Its fields are guarded by the relay's
// lock.
type link struct {
	tunnel  forwarder.Tunnel
	flights *flights
	pace    pace
	over    chan struct{} // closed when the tunnel is done and all that it reported was taken
	alarm   *time.Timer   // rings in tend when something of the below is due

	// After a refusal a tunnel is suspect: one client at a time, the scout, is let through, so that it is plain
	// whose a further refusal is.
	suspect bool
	delay   time.Duration
	next    time.Time // when the next scout may go
	scout   *client
	proven  time.Time // when the scout will have stood its time; zero until it is connected
}

func newLink(t forwarder.Tunnel, p pace) *link {
	l := &link{tunnel: t, flights: newFlights(p.settle), pace: p, over: make(chan struct{}), alarm: time.NewTimer(0)}
	l.alarm.Stop()
	return l
}

func (l *link) currentTunnel() forwarder.Tunnel { return l.tunnel }

func (l *link) isOver() bool {
	select {
	case <-l.over:
		return true
	default:
		return false
	}
}

// trust lifts the suspicion.
func (l *link) trust() {
	l.suspect = false
	l.dismiss()
}

// doubt notes a refusal, of a client's attempt where c is not nil.
func (l *link) doubt(c *client, now time.Time) {
	switch {
	case !l.suspect:
		l.suspect, l.delay = true, l.pace.first
	case c != nil && l.scout == c:
		l.delay = min(2*l.delay, l.pace.last)
	}
	l.next = now.Add(l.delay - rand.N(l.delay/4+1))
}

// dismiss ends the scout's turn.
func (l *link) dismiss() {
	l.scout, l.proven = nil, time.Time{}
	l.alarm.Stop()
}

func (l *link) mayScout(now time.Time) bool { return l.scout == nil && !now.Before(l.next) }

// stands notes that a client is connected; a scout that stays so for a while proves the tunnel.
func (l *link) stands(c *client, now time.Time) {
	if l.scout == c {
		l.proven = now.Add(l.pace.settle)
		l.schedule(false)
	}
}

// falls notes that a client's connection has ended before a byte came back.
func (l *link) falls(c *client) {
	if l.scout == c {
		l.proven = time.Time{}
		l.alarm.Stop()
	}
}

// schedule sets the alarm.
func (l *link) schedule(queued bool) {
	switch {
	case !l.proven.IsZero():
		l.alarm.Reset(time.Until(l.proven))
	case l.suspect && l.scout == nil && queued:
		l.alarm.Reset(time.Until(l.next))
	}
}

// tend takes what a tunnel says until it is done.
func (r *Relay) tend(l *link) {
	defer l.alarm.Stop()
	refusals := l.tunnel.Refusals()
	for {
		select {
		case refusal := <-refusals:
			r.report(l, refusal)
		case <-l.alarm.C:
			r.turn(l)
		case <-l.tunnel.Done():
			r.takeLast(l, refusals)
			r.done(l)
			return
		case <-r.closing:
			return
		}
	}
}

// turn does what is due: the scout has stood its time, or the next may go.
func (r *Relay) turn(l *link) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !l.proven.IsZero() && !now.Before(l.proven) {
		l.trust()
	}
	if l == r.link {
		r.admit(now)
	}
}

// takeLast takes what the tunnel reported before it ended: the end alone says less.
func (r *Relay) takeLast(l *link, refusals <-chan forwarder.Refusal) {
	for {
		select {
		case refusal := <-refusals:
			r.report(l, refusal)
		default:
			return
		}
	}
}

func (r *Relay) report(l *link, refusal forwarder.Refusal) {
	now := time.Now()
	r.mu.Lock()
	l.flights.report(refusal, now)
	if refusal.Connect {
		l.doubt(nil, now)
	}
	r.mu.Unlock()
	r.options.OnRefusal(l.tunnel, refusal)
}

// done lets a tunnel go that has ended, or whose reports cannot be taken any more.
func (r *Relay) done(l *link) {
	r.mu.Lock()
	if l.isOver() { // OnWaiting panicked
		r.mu.Unlock()
		return
	}
	r.links = slices.DeleteFunc(r.links, func(other *link) bool { return other == l })
	stranded := false
	if r.link == l {
		r.unlink()
		stranded = len(r.queue) > 0
	}
	close(l.over)
	r.mu.Unlock()
	if stranded {
		r.options.OnWaiting()
	}
}
