package relay

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// LimitError is Stats.Shortage while clients wait because max_connections others are served.
type LimitError struct {
	Max    int    // max_connections
	Holder string // the process that has most of the connections; empty: not known
}

// Error implements error.
func (e *LimitError) Error() string {
	text := fmt.Sprintf("max_connections = %d is reached", e.Max)
	if e.Holder != "" {
		text += " by " + e.Holder
	}
	return text
}

// limit restricts how many clients are served at once. The others wait in the relay's queue. The relay's mu guards it.
type limit struct {
	max           int         // 0: none
	served        int         // clients that have a place: from their first admission to a tunnel until their sockets are closed
	reached       *LimitError // what was reported; nil: nothing
	lastBlockedAt time.Time   // when a client last waited for a place
}

func (l *limit) isReached() bool { return l.max > 0 && l.served >= l.max }

// takePlace counts a client as served, and reports whether it may be.
func (l *limit) takePlace(c *client) bool {
	if !c.hasPlace {
		if l.isReached() {
			return false
		}
		c.hasPlace = true
		l.served++
	}
	return true
}

// releasePlace returns the place of a client whose sockets are closed.
func (l *limit) releasePlace(c *client) {
	if c.hasPlace {
		c.hasPlace = false
		l.served--
	}
}

// SetMaxConnections sets how many clients are served at once; 0 means no limit. Clients that are served stay, also if they are more.
func (r *Relay) SetMaxConnections(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.limit.max = n
	r.admitClients(time.Now())
}

// countBlocked returns how many clients wait because of the limit, and not for a tunnel.
func (r *Relay) countBlocked() (n int) {
	if r.attached == nil || !r.limit.isReached() {
		return 0
	}
	for _, c := range r.waitQueue {
		if !c.hasPlace {
			n++
		}
	}
	return n
}

// noteBlocked begins a report if a client waits because of the limit. A tunnel is attached.
func (r *Relay) noteBlocked(now time.Time) {
	if r.isClosed || !r.limit.isReached() || !slices.ContainsFunc(r.waitQueue, func(c *client) bool { return !c.hasPlace }) {
		return
	}
	r.limit.lastBlockedAt = now
	if r.limit.reached == nil {
		r.limit.reached = &LimitError{Max: r.limit.max}
		r.spawn(noTunnel{}, r.watchLimit, r.clearLimit)
	}
}

// watchLimit reports that the limit is reached, by whom, and when no client has waited for a while.
func (r *Relay) watchLimit() {
	reached := r.describeLimit()
	r.options.Log.Warn("cannot serve more connections", "reason", reached)
	r.options.OnShortageChange()
	tick := time.NewTicker(r.timing.limitHoldTime)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if r.isLimiting() {
				continue
			}
			r.clearLimit()
			r.options.Log.Info("can serve more connections again")
			r.options.OnShortageChange()
			return
		case <-r.closingCh:
			return
		}
	}
}

// describeLimit adds the process to what is reported.
func (r *Relay) describeLimit() *LimitError {
	holder := r.options.FindHolder(r.servedClients())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.limit.reached = &LimitError{Max: r.limit.max, Holder: holder}
	return r.limit.reached
}

// servedClients are the addresses of the clients that have a place.
func (r *Relay) servedClients() []netip.AddrPort {
	r.mu.Lock()
	defer r.mu.Unlock()
	addrs := make([]netip.AddrPort, 0, r.limit.served)
	for c := range r.clients {
		if c.hasPlace {
			addr := c.conn.RemoteAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort()
			addrs = append(addrs, netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()))
		}
	}
	return addrs
}

func (r *Relay) isLimiting() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.countBlocked() > 0 || time.Since(r.limit.lastBlockedAt) < r.timing.limitHoldTime && r.limit.isReached()
}

func (r *Relay) clearLimit() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.limit.reached = nil
}

// admitQueued admits the queued clients to the attached tunnel, in order, as long as there are places.
func (r *Relay) admitQueued() {
	r.waitQueue = slices.DeleteFunc(r.waitQueue, func(c *client) bool {
		if !r.limit.takePlace(c) {
			return false
		}
		c.tunnelState = r.attached
		c.interruptRead()
		return true
	})
}

// takeTrialClient takes the first client that may be served out of the queue; nil: there is none.
func (r *Relay) takeTrialClient() *client {
	i := slices.IndexFunc(r.waitQueue, r.limit.takePlace)
	if i < 0 {
		return nil
	}
	c := r.waitQueue[i]
	r.waitQueue = slices.Delete(r.waitQueue, i, i+1)
	return c
}
