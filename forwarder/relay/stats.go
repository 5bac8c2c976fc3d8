package relay

import (
	"sync/atomic"
	"time"
)

// Stats are what a relay has carried. Probes do not count.
type Stats struct {
	Open     int           // clients with a connection through the tunnel
	Waiting  int           // clients that wait for one
	Total    uint64        // clients accepted
	Waited   uint64        // clients that had to wait and whose wait has ended
	WaitTime time.Duration // theirs, together
	Replays  uint64        // attempts after a client's first
	BytesIn  uint64        // from clients
	BytesOut uint64        // to clients
	LastByte time.Time     // when a byte last came back; zero if none did
}

type counts struct {
	open, waiting          atomic.Int64
	total, waited, replays atomic.Uint64
	waitTime, lastByte     atomic.Int64
	bytesIn, bytesOut      atomic.Uint64
}

// Stats are the figures as they stand; bytes count as they pass.
func (r *Relay) Stats() Stats {
	c := &r.counts
	s := Stats{
		Open: int(c.open.Load()), Waiting: int(c.waiting.Load()),
		Total: c.total.Load(), Waited: c.waited.Load(), WaitTime: time.Duration(c.waitTime.Load()),
		Replays: c.replays.Load(), BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(),
	}
	if at := c.lastByte.Load(); at != 0 {
		s.LastByte = time.Unix(0, at)
	}
	return s
}
