package relay

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/localport-sh/localport/forwarder/wait"
)

// LimitError is Stats.Shortage while clients wait because max_connections others are served.
type LimitError struct {
	Max     int    // max_connections
	Process string // which process has most of the connections, and how many; empty: not known
}

// Error implements error.
func (e *LimitError) Error() string {
	text := fmt.Sprintf("max_connections = %d is reached", e.Max)
	if e.Process != "" {
		text += "; " + e.Process
	}
	return text
}

// limit restricts how many clients are served at once. The others wait in the relay's queue. The relay's mu guards it.
type limit struct {
	max           int           // 0: none
	served        int           // clients that are served: from their first admission to a tunnel until their sockets are closed
	reported      *LimitError   // nil: nothing
	isWatched     bool          // watchLimit runs
	changedCh     chan struct{} // of capacity 1: max has changed
	lastBlockedAt time.Time     // when a client last had to wait because of the limit
}

func (l *limit) isReached() bool { return l.max > 0 && l.served >= l.max }

// startServing counts a client as served, and reports whether it may be.
func (l *limit) startServing(c *client) bool {
	if !c.isServed {
		if l.isReached() {
			return false
		}
		c.isServed = true
		l.served++
	}
	return true
}

// stopServing no longer counts a client, whose sockets are closed, as served.
func (l *limit) stopServing(c *client) {
	if c.isServed {
		c.isServed = false
		l.served--
	}
}

// SetMaxConnections sets how many clients are served at once; 0 means no limit. Clients that are served stay, also if they are more.
func (r *Relay) SetMaxConnections(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n == r.limit.max {
		return
	}
	r.limit.max = n
	r.limit.reported = nil // it names the former limit
	wait.Notify(r.limit.changedCh)
	r.admitClients(time.Now())
}

// countBlocked returns how many clients wait because of the limit, and not for a tunnel.
func (r *Relay) countBlocked() (n int) {
	if r.attached == nil || !r.limit.isReached() {
		return 0
	}
	for _, c := range r.waitQueue {
		if !c.isServed {
			n++
		}
	}
	return n
}

// startReport starts a report if a client waits because of the limit. A tunnel is attached.
func (r *Relay) startReport(now time.Time) {
	if r.isClosed || r.countBlocked() == 0 {
		return
	}
	r.limit.lastBlockedAt = now
	if r.limit.reported == nil {
		r.limit.reported = &LimitError{Max: r.limit.max}
	}
	if !r.limit.isWatched {
		r.limit.isWatched = true
		r.spawn(noTunnel{}, r.watchLimit, r.clearLimit)
	}
}

// watchLimit reports that the limit is reached, by whom, and when no client has waited for a while. It ends when nothing is reported.
func (r *Relay) watchLimit() {
	tick := time.NewTicker(r.timing.limitHoldTime)
	defer tick.Stop()
	var logged *LimitError
	for {
		if report := r.checkReport(); report != logged {
			logged = r.logReport(report, logged)
		}
		if logged == nil {
			if r.stopWatchingLimit() {
				return
			}
			continue // a client was blocked meanwhile
		}
		select {
		case <-tick.C:
		case <-r.limit.changedCh:
		case <-r.closingCh:
			return
		}
	}
}

// checkReport ends the report if no client has waited for a while, and returns what is reported. Both are done under one lock: a
// client that is blocked later starts another report.
func (r *Relay) checkReport() *LimitError {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.hasBlockedRecently() {
		r.limit.reported = nil
	}
	return r.limit.reported
}

// logReport logs a report, or its end, after another one was logged. It returns what is reported now.
func (r *Relay) logReport(report, logged *LimitError) *LimitError {
	if report != nil {
		report = r.describeLimit(report)
	}
	switch {
	case report != nil:
		r.options.Log.Warn("cannot serve more connections", "reason", report)
	case logged != nil:
		r.options.Log.Info("can serve more connections again")
	default:
		return nil
	}
	r.options.OnShortageChange()
	return report
}

// describeLimit adds the process to a report. It returns nil if the report has ended meanwhile.
func (r *Relay) describeLimit(report *LimitError) *LimitError {
	process := r.options.FindMainProcess(r.servedClients())
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.limit.reported != report {
		return nil
	}
	r.limit.reported = &LimitError{Max: report.Max, Process: process}
	return r.limit.reported
}

// stopWatchingLimit returns false if a report was started meanwhile.
func (r *Relay) stopWatchingLimit() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.limit.isWatched = r.limit.reported != nil
	return !r.limit.isWatched
}

// servedClients are the addresses of the clients that are served.
func (r *Relay) servedClients() []netip.AddrPort {
	r.mu.Lock()
	defer r.mu.Unlock()
	addrs := make([]netip.AddrPort, 0, r.limit.served)
	for c := range r.clients {
		if c.isServed {
			addr := c.conn.RemoteAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort()
			addrs = append(addrs, netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()))
		}
	}
	return addrs
}

// hasBlockedRecently is true for a while after the last client had to wait: clients that come and go at the limit would otherwise
// start and end a report many times a second.
func (r *Relay) hasBlockedRecently() bool {
	return r.countBlocked() > 0 || time.Since(r.limit.lastBlockedAt) < r.timing.limitHoldTime && r.limit.isReached()
}

// clearLimit ends the report after a panic.
func (r *Relay) clearLimit() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.limit.reported, r.limit.isWatched = nil, false
}

// admitQueued admits the queued clients to the attached tunnel, in order, until the limit is reached.
func (r *Relay) admitQueued() {
	r.waitQueue = slices.DeleteFunc(r.waitQueue, func(c *client) bool {
		if !r.limit.startServing(c) {
			return false
		}
		c.tunnelState = r.attached
		c.interruptRead()
		return true
	})
}

// takeTrialClient takes the first client that may be served out of the queue; nil: there is none.
func (r *Relay) takeTrialClient() *client {
	i := slices.IndexFunc(r.waitQueue, r.limit.startServing)
	if i < 0 {
		return nil
	}
	c := r.waitQueue[i]
	r.waitQueue = slices.Delete(r.waitQueue, i, i+1)
	return c
}
