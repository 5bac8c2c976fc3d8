package relay

import (
	"errors"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// ErrNoSlot is Stats.Shortage while as many clients are open as the file limit allows.
var ErrNoSlot = errors.New("no file descriptors are free for more connections")

// shortage is a period in which accepted clients cannot be served, for lack of files or memory. The relay's mu guards it.
type shortage struct {
	reason           error     // nil: there is no shortage
	blockedAcceptors int       // how many acceptors wait for a slot, files or memory
	lastBlockedAt    time.Time // when an acceptor last stopped waiting
}

// beginShortage records that the acceptor has to wait, for the reason.
func (a *acceptor) beginShortage(reason error) {
	if a.hasReportedShortage {
		return
	}
	a.hasReportedShortage = true
	r := a.relay
	r.mu.Lock()
	r.shortage.blockedAcceptors++
	isFirst := r.shortage.reason == nil && !r.isClosed
	if isFirst {
		r.shortage.reason = reason
		r.spawn(noTunnel{}, r.watchShortage, r.clearShortage)
	}
	r.mu.Unlock()
	if isFirst {
		r.options.Log.Warn("cannot serve more connections", "address", a.listener.Addr().String(), "reason", reason)
		r.options.OnShortageChange()
	}
}

// endShortage records that the acceptor no longer waits, successfully or not.
func (a *acceptor) endShortage() {
	if !a.hasReportedShortage {
		return
	}
	a.hasReportedShortage = false
	r := a.relay
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shortage.blockedAcceptors--
	r.shortage.lastBlockedAt = time.Now()
}

// watchShortage ends the shortage when no acceptor has waited for a while and there is a slot for the next client. Without
// the delay, clients that come and go at the limit would begin and end a shortage many times a second.
func (r *Relay) watchShortage() {
	tick := time.NewTicker(r.timing.shortageHoldTime)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if r.checkShortage() {
				continue
			}
			r.options.Log.Info("can serve more connections again")
			r.options.OnShortageChange()
			return
		case <-r.closingCh:
			return
		}
	}
}

// checkShortage ends the shortage if it is over, and reports whether it goes on. Both are done under one lock: an acceptor that waits
// later begins another one.
func (r *Relay) checkShortage() bool {
	hasFreeSlot := r.slots.hasFreeSlot()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.shortage
	if s.blockedAcceptors > 0 || time.Since(s.lastBlockedAt) < r.timing.shortageHoldTime || errors.Is(s.reason, ErrNoSlot) && !hasFreeSlot {
		return true
	}
	s.reason = nil
	return false
}

// clearShortage ends the shortage after a panic.
func (r *Relay) clearShortage() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shortage.reason = nil
}

func (r *Relay) isRejectingClients() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.isRejecting
}

// countShortageReset counts a client that was reset because it got no slot within its connect_timeout.
func (r *Relay) countShortageReset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counters.shortageResets++
}

// noTunnel is the tunnelUser of goroutines that use no tunnel.
type noTunnel struct{}

func (noTunnel) currentTunnel() forwarder.Tunnel { return nil }
