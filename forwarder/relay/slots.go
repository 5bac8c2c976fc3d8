package relay

import (
	"sync"

	"github.com/localport-sh/localport/forwarder/filelimit"
	"github.com/localport-sh/localport/forwarder/wait"
)

// SlotAllocator limits how many clients all relays of a process have at once. A client acquires a slot when it is accepted
// and releases it when its sockets are closed. A slot covers the client's upstream connection too: otherwise clients that
// wait for a tunnel could use up the file descriptors that the tunnel needs.
//
// A quarter of the slots is guaranteed, divided evenly among the relays. The others are a common pool, from which a relay
// may take twice as many as it leaves free (dynamic thresholds, as in the shared packet buffers of switches: Choudhury and
// Hahne, IEEE/ACM Transactions on Networking 6(2), 1998). One relay can take two thirds of the pool, two relays two fifths
// each. Some slots are always left for relays that have no clients yet and for those that a reload adds, and no slot has to
// be taken back. The cost: a relay that is alone cannot use the last quarter.
//
// A SlotAllocator is safe for concurrent use.
type SlotAllocator struct {
	mu                 sync.Mutex // guards the fields below and those of the shares; no other lock is taken under it
	total              int
	used               int
	shares             map[*slotShare]struct{}
	guaranteedPerShare int
	takenFromPool      int                        // by all shares together, beyond guaranteedPerShare
	waiters            map[chan struct{}]struct{} // of capacity 1
}

// slotShare is one relay's part of the slots.
type slotShare struct {
	allocator *SlotAllocator
	used      int
}

// filesPerSlot is how many file descriptors a client needs: for its own socket and for its upstream connection's.
const filesPerSlot = 2

// NewSlotAllocator makes the allocator of a process that may have limit files open and needs reserved of them for
// everything but clients. There is always at least one slot.
func NewSlotAllocator(limit, reserved int) *SlotAllocator {
	s := &SlotAllocator{shares: map[*slotShare]struct{}{}, waiters: map[chan struct{}]struct{}{}}
	s.Resize(limit, reserved)
	return s
}

// newDefaultSlots makes the allocator of a relay that shares with no other.
func newDefaultSlots() *SlotAllocator {
	limit := filelimit.Current()
	return NewSlotAllocator(limit, min(limit/4, 64))
}

// Resize changes the number of slots as NewSlotAllocator sets it. Clients that have one keep it.
func (s *SlotAllocator) Resize(limit, reserved int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total = max(1, (limit-reserved)/filesPerSlot)
	s.rebalance()
}

// addShare adds a relay, which calls remove in the end.
func (s *SlotAllocator) addShare() *slotShare {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := &slotShare{allocator: s}
	s.shares[sh] = struct{}{}
	s.rebalance()
	return sh
}

// remove removes the share, which has no slot in use.
func (sh *slotShare) remove() {
	s := sh.allocator
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.shares, sh)
	s.rebalance()
}

// rebalance recomputes the shares. Like all methods that do not take mu it expects it to be held.
func (s *SlotAllocator) rebalance() {
	s.guaranteedPerShare, s.takenFromPool = 0, 0
	if n := len(s.shares); n > 0 {
		s.guaranteedPerShare = max(s.total/4/n, min(1, s.total/n))
	}
	for sh := range s.shares {
		s.takenFromPool += max(0, sh.used-s.guaranteedPerShare)
	}
	s.notifyWaiters()
}

// notifyWaiters makes all subscribers try acquire again.
func (s *SlotAllocator) notifyWaiters() {
	for waiterCh := range s.waiters {
		wait.Notify(waiterCh)
	}
}

// acquire takes a slot. It returns false if there is none for this share now.
func (sh *slotShare) acquire() bool {
	s := sh.allocator
	s.mu.Lock()
	defer s.mu.Unlock()
	if !sh.canAcquire() {
		return false
	}
	if sh.used >= s.guaranteedPerShare {
		s.takenFromPool++
	}
	s.used++
	sh.used++
	return true
}

func (sh *slotShare) canAcquire() bool {
	s := sh.allocator
	return s.used < s.total && (sh.used < s.guaranteedPerShare || sh.used-s.guaranteedPerShare < 2*s.freeInPool())
}

// hasFreeSlot reports whether acquire would succeed now.
func (sh *slotShare) hasFreeSlot() bool {
	sh.allocator.mu.Lock()
	defer sh.allocator.mu.Unlock()
	return sh.canAcquire()
}

// freeInPool returns how many slots of the common pool are free. It is negative after a new share was guaranteed slots that
// others still use.
func (s *SlotAllocator) freeInPool() int {
	return s.total - s.guaranteedPerShare*len(s.shares) - s.takenFromPool
}

// release gives a slot back.
func (sh *slotShare) release() {
	s := sh.allocator
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used--
	sh.used--
	if sh.used >= s.guaranteedPerShare {
		s.takenFromPool--
	}
	s.notifyWaiters()
}

// subscribe returns a channel that receives when acquire may succeed again, until unsubscribe is called.
func (s *SlotAllocator) subscribe() (slotFreedCh <-chan struct{}, unsubscribe func()) {
	waiterCh := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiters[waiterCh] = struct{}{}
	return waiterCh, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.waiters, waiterCh)
	}
}
