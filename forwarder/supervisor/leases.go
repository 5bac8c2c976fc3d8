package supervisor

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
)

// How often the leases are read again when nothing says that they have changed: soon after they could not be, and seldom else.
const (
	leaseInterval = 30 * time.Second
	leaseRetry    = time.Second
)

// maxRetireTries is how often it is tried to end under the state's lock. A supervisor that nobody needs ends without it in the
// end: whoever comes meanwhile is told so at the socket, and starts another.
const maxRetireTries = 3

var (
	errInUse      = errors.New("there are leases")
	errSuperseded = errors.New("another supervisor has been elected")
)

// Join records what a newcomer brings, has the leases read again, and returns what its environment needs.
func (s *Supervisor) Join(_ context.Context, session api.Session) (api.View, error) {
	if session.Lease != nil {
		lease := storedLease(*session.Lease)
		s.store.count(func(state *lockstate.State) { state.Hold(lease) })
	}
	if s.closing.Load() || s.plan.Load() == nil {
		return api.View{}, api.ErrEnding
	}
	if session.Level != "" {
		if err := s.o.Level.UnmarshalText([]byte(session.Level)); err != nil {
			return api.View{}, err
		}
	}
	wait.Notify(s.wake) // the newcomer's lease is written down; whoever ends a supervisor reads it first
	wait.Replace(s.sessions, session)
	return s.view(), nil
}

func storedLease(l api.Lease) lockstate.Lease {
	return lockstate.Lease{
		Kind: lockstate.Kind(l.Kind), Process: lockstate.Process{PID: l.PID, Start: l.Start}, Dir: l.Dir, Since: l.Since,
	}
}

// Leave releases a lease whose holder could not, and has the leases read again.
func (s *Supervisor) Leave(_ context.Context, r api.LeaveRequest) error {
	if r.Lease != nil {
		lease := storedLease(*r.Lease)
		s.store.count(func(state *lockstate.State) { state.ReleaseAt(lease.Kind, lease.Process, r.At) })
	}
	wait.Notify(s.wake)
	return nil
}

// retireReason is why a supervisor gives its ports up.
type retireReason int

const (
	reasonUnused        retireReason = iota // nobody holds a lease: unless somebody does after all
	reasonOrdered                           // by the user, whoever holds a lease: prompts leave the project down
	reasonDirectoryGone                     // its directory is gone
)

// retireRequest asks the loop of the leases for the end.
type retireRequest struct {
	why    retireReason
	result chan<- bool // gets whether the ports are given up
}

// requestRetire asks for the end, and reports whether it has come when ctx allows.
func (s *Supervisor) requestRetire(ctx context.Context, why retireReason) bool {
	result := make(chan bool, 1)
	select {
	case s.retireCh <- retireRequest{why, result}:
	case <-s.ended:
		return true
	case <-ctx.Done():
		return false
	}
	select {
	case retired := <-result:
		return retired
	case <-s.ended:
		return true
	case <-ctx.Done():
		return false
	}
}

// keep is the only loop that decides on the end. It returns when the ports have been given up: linger after the last lease, at
// once on a client's request, or when ctx ends. What could not be read or done is tried again until it has been.
func (s *Supervisor) keep(ctx context.Context) {
	linger, next := time.NewTimer(0), time.NewTimer(0)
	linger.Stop()
	defer linger.Stop()
	defer next.Stop()
	wait.Notify(s.wake)
	isAlone, tries := false, 0
	for {
		select {
		case <-s.ended:
			return
		case <-ctx.Done():
			s.onTerminate()
			return
		case r := <-s.retireCh:
			r.result <- s.retire(r.why, 0)
			continue
		case <-next.C:
		case <-s.wake:
		case <-linger.C:
			if s.retire(reasonUnused, tries) {
				return
			}
			tries++
			isAlone = false
		}
		count, err := s.countLeases()
		next.Reset(leaseInterval)
		if err != nil {
			next.Reset(leaseRetry)
		}
		switch {
		case count > 0:
			linger.Stop()
			tries = 0
		case !isAlone && tries > 0:
			linger.Reset(leaseRetry)
		case !isAlone:
			linger.Reset(s.plan.Load().project.Linger)
		}
		isAlone = count == 0
	}
}

// countLeases reads the leases, watches the processes of new ones, and returns how many count. Where they cannot be read, it is
// those that are known, less the ones whose process has ended.
func (s *Supervisor) countLeases() (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), lockLimit)
	defer cancel()
	err := s.store.refresh(ctx)
	state := s.store.state()
	state.Prune()
	s.resizeSeats(s.plan.Load())
	s.watches.follow(state.Leases, s.launch, func() { wait.Notify(s.wake) })
	return len(state.Leases), err
}

// retire gives the ports up and resigns, after one more look at the leases under the state's lock: whoever comes later finds
// nobody elected and free ports. Tunnels are still up when it returns. False if there are leases after all, or if it is to be
// tried again.
func (s *Supervisor) retire(why retireReason, tries int) bool {
	s.acts <- struct{}{}
	defer s.endAct()
	if s.closing.Load() {
		return true
	}
	if s.isSuperseded.Load() { // the state is another's, the leases of whoever is here are not
		known := s.store.state()
		if known.Prune(); why == reasonUnused && len(known.Leases) > 0 {
			return false
		}
		s.giveUp()
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_, err := s.dir.Update(ctx, func(tx *lockstate.Tx) error {
		s.closing.Store(false)
		s.store.restoreLost(tx)
		if why == reasonUnused && s.hasLeases(tx) {
			return errInUse
		}
		s.closing.Store(true)
		if other := tx.Supervisor; other != nil && other.Process != lockstate.Self() && other.Alive() {
			return errSuperseded // its record stays
		}
		// Who joined by socket until now was told that the project is up.
		if why == reasonUnused && s.hasLeases(tx) {
			s.closing.Store(false)
			return errInUse
		}
		s.store.apply(&tx.State)
		tx.Prune()
		if why != reasonUnused {
			tx.Release(lockstate.StartLease, lockstate.Process{})
		}
		tx.Supervisor, tx.Stopped, tx.Started, tx.Only = nil, nil, nil, nil
		tx.Down = tx.Down || why == reasonOrdered
		tx.Bump()
		tx.Last() // else the leases that were released come back when the disk has room again
		return nil
	})
	if errors.Is(err, errInUse) {
		return false
	}
	if failed, ok := errors.AsType[*lockstate.WriteError](err); ok && failed.Fallback != "" {
		s.log.Warn("the end cannot be written to the state", "error", err, "written_instead", failed.Fallback)
	} else if err != nil {
		s.log.Error("the end cannot be written to the state", "error", err)
	}
	if !s.closing.Load() {
		// The state could not even be read.
		if why == reasonUnused && tries < maxRetireTries {
			return false
		}
		s.closing.Store(true)
	}
	s.closePorts()
	if err := s.election.Resign(); err != nil {
		s.log.Error("resign", "error", err)
	}
	close(s.ended)
	return true
}

// hasLeases reports whether there are leases in a state, with those that are not written yet.
func (s *Supervisor) hasLeases(tx *lockstate.Tx) bool {
	s.store.apply(&tx.State)
	tx.Prune()
	return len(tx.Leases) > 0
}

// closePorts closes every listener and the control socket, and the keeper's copies of them.
func (s *Supervisor) closePorts() {
	s.keeping.end()
	p := s.plan.Load()
	p.stopServices(dependencyOrder(p.project.Services))
	s.socket.close()
}

// leaseWatches wait for the ends of the processes that hold leases. They are safe for concurrent use.
type leaseWatches struct {
	mu  sync.Mutex // guards all
	all map[lockstate.Process]func()
}

// follow watches just the processes of these leases. exited is called when one ends.
func (w *leaseWatches) follow(leases []lockstate.Lease, launch func(func(context.Context)) func(), exited func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	wanted := make(map[lockstate.Process]bool, len(leases))
	for _, lease := range leases {
		if lease.Kind == lockstate.StartLease {
			continue
		}
		p := lease.Process
		wanted[p] = true
		if w.all[p] == nil {
			w.all[p] = launch(func(ctx context.Context) {
				if lockstate.WaitExit(ctx, p) == nil {
					exited()
				}
			})
		}
	}
	for p, end := range w.all {
		if !wanted[p] {
			end()
			delete(w.all, p)
		}
	}
}

func (w *leaseWatches) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p, end := range w.all {
		end()
		delete(w.all, p)
	}
}
