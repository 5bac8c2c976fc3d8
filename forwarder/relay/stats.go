package relay

import (
	"errors"
	"sync/atomic"
	"time"
)

// Stats are a relay's figures since it began. Probes count in none of them.
type Stats struct {
	Open     int           // clients with a connection through a tunnel
	Waiting  int           // clients that have none yet, or none any more
	Total    uint64        // clients accepted
	Waited   uint64        // of these, how many could not go through at once
	WaitTime time.Duration // how long these waited, taken together; the ones that wait now count when they are done
	Replays  uint64        // how often a client's bytes were sent to a further connection
	BytesIn  uint64        // from clients
	BytesOut uint64        // to clients
	LastByte time.Time     // when a byte last came out of a tunnel; zero: never
	// NoRoom is why clients cannot be taken in now: ErrNoSeat, or what accept met. Nil: there is room.
	NoRoom   error
	Unseated int    // clients that wait to be taken in; on Linux with those that the kernel holds
	Resets   uint64 // clients that were reset because they could not be taken in for connect_timeout
}

// Stats are the figures of this moment; bytes are counted as they pass.
func (r *Relay) Stats() Stats {
	r.mu.Lock()
	f, short := r.figures, r.shortage
	r.mu.Unlock()
	s := Stats{
		Open: f.in[open], Waiting: f.in[waiting],
		Total: f.total, Waited: f.waited, WaitTime: f.waitTime, Replays: f.replays,
		BytesIn: uint64(r.traffic.in.Load()), BytesOut: uint64(r.traffic.out.Load()),
	}
	if last := r.traffic.last.Load(); last != 0 {
		s.LastByte = time.Unix(0, last)
	}
	if s.NoRoom, s.Resets = short.reason, f.unseated; s.NoRoom != nil {
		s.Unseated = r.countQueued(short)
	}
	return s
}

// countQueued is how many clients wait to be taken in.
func (r *Relay) countQueued(short shortage) int {
	n := 0
	if errors.Is(short.reason, ErrNoSeat) {
		n = short.blocked // each holds the first of its queue
	}
	for _, l := range r.listeners.tcp {
		n += queueLength(l)
	}
	return n
}

// place is where a client is counted.
type place int

const (
	waiting place = iota
	open
	leaving // it will be reset
	places
)

type figures struct {
	in       [places]int
	total    uint64
	waited   uint64
	waitTime time.Duration
	replays  uint64
	unseated uint64
}

func (f *figures) enter(c *client) {
	f.total++
	f.in[c.place]++
}

func (f *figures) move(c *client, to place) {
	f.in[c.place]--
	c.place = to
	f.in[to]++
}

func (f *figures) leave(c *client) { f.in[c.place]-- }

// waits notes that a client has to wait, from now on.
func (f *figures) waits(c *client, now time.Time) {
	if !c.waited {
		c.waited = true
		f.waited++
	}
	c.since = now
}

// traffic is counted by the copying itself.
type traffic struct {
	in, out atomic.Int64
	last    atomic.Int64 // in nanoseconds since 1970
}

func (t *traffic) countIn(n int) { t.in.Add(int64(n)) }

func (t *traffic) countOut(n int) {
	t.out.Add(int64(n))
	t.last.Store(time.Now().UnixNano())
}
