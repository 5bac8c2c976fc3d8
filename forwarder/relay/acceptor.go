package relay

import (
	"errors"
	"net"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/wait"
)

// acceptBackoff is the delay after an accept that failed.
var acceptBackoff = wait.Backoff{First: 5 * time.Millisecond, Max: time.Second}

// runAcceptLoop accepts clients until the listener is closed, and restarts after a panic.
func (r *Relay) runAcceptLoop(l *net.TCPListener) {
	delay := acceptBackoff
	for mustRestart := true; mustRestart; {
		mustRestart = false
		a := acceptor{relay: r, listener: l}
		forwarder.CatchPanic(a.run, func(failure *forwarder.Failure, stack []byte) {
			a.endShortage()
			r.options.OnPanic(nil, failure, stack)
			mustRestart = !wait.IsClosedWithin(delay.Next(), r.acceptClosedCh)
		})
	}
}

// acceptor accepts the clients of one listener.
type acceptor struct {
	relay    *Relay
	listener *net.TCPListener
	// queuedSince is the earliest time at which the next connection in the kernel's accept queue can have arrived. Zero:
	// the queue was empty a moment ago.
	queuedSince         time.Time
	hasReportedShortage bool // it is counted in the relay's shortage
}

// maxUnqueuedDelay separates two cases: an accept that takes longer had to wait for a connection, so that the queue was
// empty; a connection that is older when it is accepted had to wait in the queue.
const maxUnqueuedDelay = 2 * time.Millisecond

// run accepts clients until the listener is closed. Nothing else ends it: when files or memory run out, new connections
// stay in the kernel's queue until the shortage is over.
func (a *acceptor) run() {
	delay := acceptBackoff
	for {
		acceptStart := time.Now()
		conn, err := a.listener.AcceptTCP()
		switch {
		case err == nil:
			delay.Reset()
			if !a.assignSlot(conn, a.arrivalTime(conn, acceptStart, time.Now())) {
				return
			}
		case errors.Is(err, net.ErrClosed):
			return
		default:
			a.beginShortage(err)
			if a.queuedSince.IsZero() {
				a.queuedSince = acceptStart
			}
			canAccept := !wait.IsClosedWithin(delay.Next(), a.relay.acceptClosedCh)
			a.endShortage() // the next accept may block although files are free
			if !canAccept {
				return
			}
		}
	}
}

// arrivalTime returns when an accepted client connected, or an earlier time where the system does not tell.
func (a *acceptor) arrivalTime(conn *net.TCPConn, acceptStart, now time.Time) time.Time {
	if a.queuedSince.IsZero() {
		return now
	}
	arrivedAt := a.queuedSince
	if age, known := connectionAge(conn); known {
		arrivedAt = now.Add(-age)
	} else if now.Sub(acceptStart) > maxUnqueuedDelay {
		arrivedAt = now
	}
	if arrivedAt.Before(a.queuedSince) {
		arrivedAt = a.queuedSince
	}
	a.queuedSince = arrivedAt // the kernel queues in the order of arrival
	if now.Sub(arrivedAt) <= maxUnqueuedDelay {
		a.queuedSince = time.Time{}
	}
	return arrivedAt
}

// assignSlot serves a client once there is a slot for it, or resets it after its connect_timeout. It returns false when
// the relay has stopped accepting meanwhile.
func (a *acceptor) assignSlot(conn *net.TCPConn, arrivedAt time.Time) bool {
	r := a.relay
	if r.slots.acquire() {
		r.addClient(conn, arrivedAt)
		return true
	}
	a.beginShortage(ErrNoSlot)
	a.queuedSince = arrivedAt
	slotFreedCh, unsubscribe := r.slots.allocator.subscribe()
	defer unsubscribe()
	timer := time.NewTimer(0)
	defer timer.Stop()
	deadline := arrivedAt.Add(time.Duration(r.connectTimeout.Load()))
	for !r.slots.acquire() {
		left := time.Until(deadline)
		if left <= 0 || r.isRejectingClients() {
			r.countShortageReset()
			resetConn(conn)
			a.endShortage()
			return true
		}
		timer.Reset(min(left, time.Second))
		select {
		case <-slotFreedCh:
		case <-timer.C:
		case <-r.acceptClosedCh:
			resetConn(conn)
			a.endShortage()
			return false
		}
	}
	a.endShortage()
	r.addClient(conn, arrivedAt)
	return true
}
