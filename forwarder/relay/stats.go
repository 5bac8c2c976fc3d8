package relay

import (
	"errors"
	"sync/atomic"
	"time"
)

// Stats are a relay's counters since New. Connections of health checks are not counted.
type Stats struct {
	Open     int           // clients with a connection through a tunnel
	Waiting  int           // clients that have none yet, or have lost it
	Total    uint64        // clients accepted
	Waited   uint64        // of these, how many had to wait for a tunnel
	WaitTime time.Duration // the sum of their waits, each added when it ends
	Replays  uint64        // how often a client's bytes were sent again through another connection
	BytesIn  uint64        // from clients
	BytesOut uint64        // to clients
	LastByte time.Time     // when a byte last came from an upstream; zero: never
	// Shortage is why no more clients can be served now: ErrNoSlot, the error of accept, or a *LimitError. Nil: there is no shortage.
	Shortage       error
	Unserved       int    // clients that wait for the end of the shortage; those in the kernel's accept queue count on Linux only
	ShortageResets uint64 // clients that were reset because the shortage did not end within their connect_timeout
}

// Stats returns the current counters. Bytes are counted when they are read.
func (r *Relay) Stats() Stats {
	r.mu.Lock()
	counters, shortage, reported, blocked := r.counters, r.shortage, r.limit.reported, r.countBlocked()
	r.mu.Unlock()
	s := Stats{
		Open: counters.byState[stateOpen], Waiting: counters.byState[stateWaiting],
		Total: counters.total, Waited: counters.waited, WaitTime: counters.waitTime, Replays: counters.replays,
		BytesIn: uint64(r.traffic.bytesIn.Load()), BytesOut: uint64(r.traffic.bytesOut.Load()),
	}
	if last := r.traffic.lastByteOut.Load(); last != 0 {
		s.LastByte = time.Unix(0, last)
	}
	if s.Shortage, s.ShortageResets = shortage.reason, counters.shortageResets; s.Shortage != nil {
		s.Unserved = r.countUnserved(shortage)
	} else if reported != nil {
		s.Shortage, s.Unserved = reported, blocked
	}
	return s
}

func (r *Relay) countUnserved(s shortage) int {
	n := 0
	if errors.Is(s.reason, ErrNoSlot) {
		n = s.blockedAcceptors // each holds the client that was first in its queue
	}
	for _, l := range r.listeners.tcp {
		n += queueLength(l)
	}
	return n
}

// clientState is what a client is counted as in Stats.
type clientState uint8

const (
	stateWaiting clientState = iota
	stateOpen
	stateResetting // it will be reset
	clientStateCount
)

type clientCounters struct {
	byState        [clientStateCount]int
	total          uint64
	waited         uint64
	waitTime       time.Duration
	replays        uint64
	shortageResets uint64
}

func (cc *clientCounters) addClient(c *client) {
	cc.total++
	cc.byState[c.state]++
}

func (cc *clientCounters) setState(c *client, to clientState) {
	cc.byState[c.state]--
	c.state = to
	cc.byState[to]++
}

func (cc *clientCounters) removeClient(c *client) { cc.byState[c.state]-- }

// startWaiting records that a client waits for a tunnel from now on.
func (cc *clientCounters) startWaiting(c *client, now time.Time) {
	if !c.hasWaited {
		c.hasWaited = true
		cc.waited++
	}
	c.waitingSince = now
}

// traffic is updated by the copiers.
type traffic struct {
	bytesIn, bytesOut atomic.Int64
	lastByteOut       atomic.Int64 // in nanoseconds since 1970
}

func (t *traffic) countIn(n int) { t.bytesIn.Add(int64(n)) }

func (t *traffic) countOut(n int) {
	t.bytesOut.Add(int64(n))
	t.lastByteOut.Store(time.Now().UnixNano())
}
