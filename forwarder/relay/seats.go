package relay

import (
	"sync"

	"github.com/localport-sh/localport/forwarder/filelimit"
)

// Seats are the clients that all relays of a process may have at once. A client takes a seat when it is accepted and
// keeps it until its sockets are closed. There are so many that each client can have its connection through a tunnel as
// well: otherwise clients that wait for a tunnel could take every file descriptor, also those that the tunnel needs.
//
// A quarter of the seats is divided evenly among the relays: these are guaranteed, and nobody else can have them. The
// others are a common pool, from which a relay may take twice as many as it leaves free. (Dynamic thresholds, as switches
// share their packet buffers: Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998.) One relay can thus
// take two thirds of the pool, two relays two fifths each: whoever takes many leaves some for relays that have none yet,
// and for those that a reload adds, without anybody having to give a seat back. The price is that a relay that is alone
// cannot use the last quarter.
//
// Seats are safe for concurrent use.
type Seats struct {
	mu         sync.Mutex // guards what follows and the shares; no other lock is taken under it
	total      int
	used       int
	shares     map[*share]struct{}
	guaranteed int                        // of each share
	borrowed   int                        // what shares have beyond that, together
	waiters    map[chan struct{}]struct{} // whoever waits for a seat
}

// share is one relay's part of the seats.
type share struct {
	seats *Seats
	used  int
}

// filesPerSeat is what a client takes: its own socket, and that of its connection through the tunnel.
const filesPerSeat = 2

// NewSeats is for a process that may have limit files open and needs reserved of them for everything but clients. There
// is always one seat.
func NewSeats(limit, reserved int) *Seats {
	s := &Seats{shares: map[*share]struct{}{}, waiters: map[chan struct{}]struct{}{}}
	s.Resize(limit, reserved)
	return s
}

// defaultSeats are for a relay that shares with nobody.
func defaultSeats() *Seats {
	limit := filelimit.Current()
	return NewSeats(limit, min(limit/4, 64))
}

// Resize changes the number of seats. Clients that have one keep it.
func (s *Seats) Resize(limit, reserved int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total = max(1, (limit-reserved)/filesPerSeat)
	s.rebalance()
}

// join gives a relay its share.
func (s *Seats) join() *share {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := &share{seats: s}
	s.shares[sh] = struct{}{}
	s.rebalance()
	return sh
}

// leave gives the share back; its seats are all free.
func (sh *share) leave() {
	s := sh.seats
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.shares, sh)
	s.rebalance()
}

// rebalance divides the seats anew. The lock is held, as for all that does not take it.
func (s *Seats) rebalance() {
	s.guaranteed, s.borrowed = 0, 0
	if n := len(s.shares); n > 0 {
		s.guaranteed = max(s.total/4/n, min(1, s.total/n))
	}
	for sh := range s.shares {
		s.borrowed += max(0, sh.used-s.guaranteed)
	}
	s.wake()
}

// wake has whoever waits for a seat try again.
func (s *Seats) wake() {
	for waiter := range s.waiters {
		select {
		case waiter <- struct{}{}:
		default: // it was told already
		}
	}
}

// take takes a seat; false if there is none for this share now.
func (sh *share) take() bool {
	s := sh.seats
	s.mu.Lock()
	defer s.mu.Unlock()
	if !sh.mayTake() {
		return false
	}
	if sh.used >= s.guaranteed {
		s.borrowed++
	}
	s.used++
	sh.used++
	return true
}

func (sh *share) mayTake() bool {
	s := sh.seats
	return s.used < s.total && (sh.used < s.guaranteed || sh.used-s.guaranteed < 2*s.unborrowed())
}

// hasRoom reports whether take would take a seat now.
func (sh *share) hasRoom() bool {
	sh.seats.mu.Lock()
	defer sh.seats.mu.Unlock()
	return sh.mayTake()
}

// unborrowed is what is free in the common pool. It is negative after relays have joined that are guaranteed what others
// still have.
func (s *Seats) unborrowed() int { return s.total - s.guaranteed*len(s.shares) - s.borrowed }

// release gives a seat back.
func (sh *share) release() {
	s := sh.seats
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used--
	sh.used--
	if sh.used >= s.guaranteed {
		s.borrowed--
	}
	s.wake()
}

// wait returns a channel that gets a value when take may be worth another try, until stop is called.
func (s *Seats) wait() (tryAgain <-chan struct{}, stop func()) {
	waiter := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiters[waiter] = struct{}{}
	return waiter, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.waiters, waiter)
	}
}
