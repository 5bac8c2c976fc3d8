package relay

import (
	"errors"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// ErrNoSlot is Stats.NoRoom while as many clients are open as the file limit allows.
var ErrNoSlot = errors.New("no file descriptors are free for more connections")

// shortage is a period in which accepted clients cannot be served, for lack of files or memory. The relay's mu guards it.
type shortage struct {
	reason           error     // nil: there is no shortage
	blockedAcceptors int       // how many acceptors wait for room
	lastBlockedAt    time.Time // when an acceptor last stopped waiting
}

// beginShortage records that the acceptor waits for room.
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
		r.options.Log.Warn("no room for more connections", "address", a.listener.Addr().String(), "reason", reason)
		r.options.OnRoomChange()
	}
}

// endShortage records that the acceptor no longer waits for room, whether it has got it or not.
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
	tick := time.NewTicker(r.timing.minRoom)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if r.hasShortage() {
				continue
			}
			r.clearShortage()
			r.options.Log.Info("room for more connections again")
			r.options.OnRoomChange()
			return
		case <-r.closingCh:
			return
		}
	}
}

func (r *Relay) hasShortage() bool {
	r.mu.Lock()
	shortage := r.shortage
	r.mu.Unlock()
	return shortage.blockedAcceptors > 0 || time.Since(shortage.lastBlockedAt) < r.timing.minRoom ||
		errors.Is(shortage.reason, ErrNoSlot) && !r.slots.hasFreeSlot()
}

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

// countNoRoomReset counts a client that was reset because there was no room for it within its connect_timeout.
func (r *Relay) countNoRoomReset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counters.noRoomResets++
}

// noTunnel is the tunnelUser of goroutines that use no tunnel.
type noTunnel struct{}

func (noTunnel) currentTunnel() forwarder.Tunnel { return nil }
