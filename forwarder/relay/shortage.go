package relay

import (
	"errors"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// ErrNoSeat is why clients have to wait before they are taken in: as many are open as the file limit allows.
var ErrNoSeat = errors.New("no file descriptors are free for more connections")

// shortage is a time in which clients cannot be taken in. The relay's lock guards it.
type shortage struct {
	reason  error     // of the shortage; nil: there is none
	blocked int       // acceptors that wait for room
	last    time.Time // when one waited last
}

// beginShortage notes that there is no room for the next client.
func (a *acceptor) beginShortage(reason error) {
	if a.short {
		return
	}
	a.short = true
	r := a.relay
	r.mu.Lock()
	r.shortage.blocked++
	begun := r.shortage.reason == nil && !r.closed
	if begun {
		r.shortage.reason = reason
		r.goes(noTunnel{}, r.watchShortage, r.clearShortage)
	}
	r.mu.Unlock()
	if begun {
		r.options.Log.Warn("no room for more connections", "address", a.listener.Addr().String(), "reason", reason)
		r.options.OnRoomChange()
	}
}

// endShortage notes that the acceptor waits for room no longer, whether it has got it or not.
func (a *acceptor) endShortage() {
	if !a.short {
		return
	}
	a.short = false
	r := a.relay
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shortage.blocked--
	r.shortage.last = time.Now()
}

// watchShortage ends the shortage when no acceptor has waited for a while, and there is a seat for the next client.
// Clients that come and go around the limit would otherwise begin and end one many times a second.
func (r *Relay) watchShortage() {
	tick := time.NewTicker(r.pace.last)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if r.isShort() {
				continue
			}
			r.clearShortage()
			r.options.Log.Info("there is room for connections again")
			r.options.OnRoomChange()
			return
		case <-r.closing:
			return
		}
	}
}

func (r *Relay) isShort() bool {
	r.mu.Lock()
	short := r.shortage
	r.mu.Unlock()
	return short.blocked > 0 || time.Since(short.last) < r.pace.last ||
		errors.Is(short.reason, ErrNoSeat) && !r.share.hasRoom()
}

func (r *Relay) clearShortage() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shortage.reason = nil
}

func (r *Relay) isRejecting() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rejecting
}

// countUnseated counts a client that was reset because there was no room for it in time.
func (r *Relay) countUnseated() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.figures.unseated++
}

// noTunnel is who a part of the relay works for that uses no tunnel.
type noTunnel struct{}

func (noTunnel) currentTunnel() forwarder.Tunnel { return nil }
