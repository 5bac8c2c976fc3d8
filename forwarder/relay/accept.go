package relay

import (
	"errors"
	"net"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// keepAccepting takes clients until the listener is closed, also after a panic.
func (r *Relay) keepAccepting(l *net.TCPListener) {
	var delay time.Duration
	for panicked := true; panicked; {
		panicked = false
		a := acceptor{relay: r, listener: l}
		forwarder.Contain(a.run, func(failure *forwarder.Failure, stack []byte) {
			a.endShortage()
			r.options.OnBroken(nil, failure, stack)
			delay = backOff(delay)
			panicked = r.rest(delay)
		})
	}
}

// acceptor takes the clients of one listener.
type acceptor struct {
	relay    *Relay
	listener *net.TCPListener
	// queuedSince is when the next connection may have come: the kernel queues it until it is accepted. Zero: the queue
	// was empty a moment ago.
	queuedSince time.Time
	short       bool // it waits for room, and has told the relay
}

// queueEmpty is how long an accept takes only if it had to wait for a connection, and how old a connection is at least
// that had to wait for an accept.
const queueEmpty = 2 * time.Millisecond

// run takes clients until the listener is closed. Nothing else ends it: when files or memory run out, new connections
// queue up in the kernel, unrefused, and are taken once there is room again.
func (a *acceptor) run() {
	var delay time.Duration
	for {
		called := time.Now()
		conn, err := a.listener.AcceptTCP()
		switch {
		case err == nil:
			delay = 0
			if !a.admit(conn, a.arrival(conn, called, time.Now())) {
				return
			}
		case errors.Is(err, net.ErrClosed):
			return
		default:
			a.beginShortage(err)
			if a.queuedSince.IsZero() {
				a.queuedSince = called
			}
			delay = backOff(delay)
			accepting := a.relay.rest(delay)
			a.endShortage() // the next accept may block, with files to spare
			if !accepting {
				return
			}
		}
	}
}

// arrival is when an accepted client came, or a time before that where the system does not tell.
func (a *acceptor) arrival(conn *net.TCPConn, called, now time.Time) time.Time {
	if a.queuedSince.IsZero() {
		return now
	}
	arrived := a.queuedSince
	if age, known := connectionAge(conn); known {
		arrived = now.Add(-age)
	} else if now.Sub(called) > queueEmpty {
		arrived = now
	}
	if arrived.Before(a.queuedSince) {
		arrived = a.queuedSince
	}
	a.queuedSince = arrived // the queue is in the order of arrival
	if now.Sub(arrived) <= queueEmpty {
		a.queuedSince = time.Time{}
	}
	return arrived
}

// admit gives a client a seat, once there is one, or resets it when its connect_timeout is over. False when accepting
// has ended meanwhile.
func (a *acceptor) admit(conn *net.TCPConn, arrived time.Time) bool {
	r := a.relay
	if r.share.take() {
		r.enter(conn, arrived)
		return true
	}
	a.beginShortage(ErrNoSeat)
	a.queuedSince = arrived
	tryAgain, stop := r.share.seats.wait()
	defer stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	deadline := arrived.Add(time.Duration(r.timeout.Load()))
	for !r.share.take() {
		left := time.Until(deadline)
		if left <= 0 || r.isRejecting() {
			r.countUnseated()
			reset(conn)
			a.endShortage()
			return true
		}
		timer.Reset(min(left, time.Second))
		select {
		case <-tryAgain:
		case <-timer.C:
		case <-r.deaf:
			reset(conn)
			a.endShortage()
			return false
		}
	}
	a.endShortage()
	r.enter(conn, arrived)
	return true
}

// backOff is the delay after the one that was.
func backOff(delay time.Duration) time.Duration {
	return max(5*time.Millisecond, min(2*delay, time.Second))
}

// rest waits, and is false when accepting has ended meanwhile.
func (r *Relay) rest(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.deaf:
		return false
	}
}
