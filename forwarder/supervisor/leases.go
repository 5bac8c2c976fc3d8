package supervisor

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
)

// Leases are read again after leaseInterval without an event, and after leaseRetry if reading them failed.
const (
	leaseInterval = 30 * time.Second
	leaseRetry    = time.Second
)

// maxShutdownTries is the number of attempts to shut down under the state's lock. After it, an unused supervisor shuts down without
// the lock: a client that joins meanwhile gets api.ErrEnding and starts another.
const maxShutdownTries = 3

var (
	errHasLeases  = errors.New("the project has leases")
	errSuperseded = errors.New("another supervisor has been elected")
)

// Join records the lease and environment of a client and returns what it exports.
func (s *Supervisor) Join(_ context.Context, request api.JoinRequest) (api.ProjectView, error) {
	if request.Lease != nil {
		lease := decodeLease(*request.Lease)
		s.store.add(func(state *lockstate.State) { state.AddLease(lease) })
	}
	if s.isClosing.Load() || s.active.Load() == nil {
		return api.ProjectView{}, api.ErrEnding
	}
	if request.Level != "" {
		if err := s.options.LogLevel.UnmarshalText([]byte(request.Level)); err != nil {
			return api.ProjectView{}, err
		}
	}
	wait.Notify(s.leasesChangedCh) // the lease is recorded before the next decision to shut down
	wait.Replace(s.joinCh, request)
	return s.view(), nil
}

func decodeLease(l api.Lease) lockstate.Lease {
	return lockstate.Lease{
		Kind: lockstate.LeaseKind(l.Kind), Process: lockstate.Process{PID: l.PID, Start: l.StartTime}, Dir: l.Dir, Since: l.Since,
	}
}

// Leave releases a lease, if r names one, and has the leases read again.
func (s *Supervisor) Leave(_ context.Context, r api.LeaveRequest) error {
	if r.Lease != nil {
		lease := decodeLease(*r.Lease)
		s.store.add(func(state *lockstate.State) { state.RemoveLeaseAsOf(lease.Kind, lease.Process, r.At) })
	}
	wait.Notify(s.leasesChangedCh)
	return nil
}

// shutdownReason is why a supervisor is asked to shut down.
type shutdownReason int

const (
	shutdownUnused        shutdownReason = iota // there seem to be no leases; refused if there are
	shutdownRequested                           // by the user, whatever the leases; prompts do not start the project again
	shutdownDirectoryGone                       // the project directory was removed
)

// shutdownRequest asks awaitShutdown to shut down.
type shutdownRequest struct {
	reason   shutdownReason
	resultCh chan<- bool // receives whether the ports were closed
}

// requestShutdown asks awaitShutdown to close the ports, and reports whether they were closed. False if ctx ends first.
func (s *Supervisor) requestShutdown(ctx context.Context, reason shutdownReason) bool {
	resultCh := make(chan bool, 1)
	select {
	case s.shutdownCh <- shutdownRequest{reason, resultCh}:
	case <-s.endedCh:
		return true
	case <-ctx.Done():
		return false
	}
	select {
	case hasShutDown := <-resultCh:
		return hasShutDown
	case <-s.endedCh:
		return true
	case <-ctx.Done():
		return false
	}
}

// awaitShutdown is the only place that decides to shut down. It returns when the ports have been closed or handed over: linger after
// the last lease, on request, or when ctx ends. Whatever fails is retried.
func (s *Supervisor) awaitShutdown(ctx context.Context) {
	linger, recheck := time.NewTimer(0), time.NewTimer(0)
	linger.Stop()
	defer linger.Stop()
	defer recheck.Stop()
	wait.Notify(s.leasesChangedCh)
	hasNoLeases, tries := false, 0
	for {
		select {
		case <-s.endedCh:
			return
		case <-ctx.Done():
			s.onTerminate(context.WithoutCancel(ctx))
			return
		case r := <-s.shutdownCh:
			r.resultCh <- s.tryShutDown(ctx, r.reason, 0)
			continue
		case <-recheck.C:
		case <-s.leasesChangedCh:
		case <-linger.C:
			if s.tryShutDown(ctx, shutdownUnused, tries) {
				return
			}
			tries++
			hasNoLeases = false
		}
		count, err := s.countLeases(ctx)
		recheck.Reset(leaseInterval)
		if err != nil {
			recheck.Reset(leaseRetry)
		}
		switch {
		case count > 0:
			linger.Stop()
			tries = 0
		case !hasNoLeases && tries > 0:
			linger.Reset(leaseRetry)
		case !hasNoLeases:
			linger.Reset(s.active.Load().project.Linger)
		}
		hasNoLeases = count == 0
	}
}

// countLeases reads the leases, watches their processes, and returns how many are live. If the file cannot be read, the cached
// leases count.
func (s *Supervisor) countLeases(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	err := s.store.refresh(ctx)
	state := s.store.state()
	state.PruneLeases()
	s.resizeClientSlots(s.active.Load())
	s.leaseWatcher.setLeases(state.Leases, s.startTask, func() { wait.Notify(s.leasesChangedCh) })
	return len(state.Leases), err
}

// tryShutDown closes the ports and releases the election, after checking the leases once more under the state's lock: a client that
// comes later finds free ports and no supervisor. Tunnels are still up when it returns. False if there are leases, or if it must
// be tried again.
func (s *Supervisor) tryShutDown(ctx context.Context, reason shutdownReason, tries int) bool {
	s.operationSlot <- struct{}{}
	defer s.endOperation()
	if s.isClosing.Load() {
		return true
	}
	if s.isSuperseded.Load() { // the state file is another supervisor's; only the cached leases are ours
		known := s.store.state()
		if known.PruneLeases(); reason == shutdownUnused && len(known.Leases) > 0 {
			return false
		}
		s.closePortsForElected()
		return true
	}
	err := s.recordShutdown(ctx, reason)
	if errors.Is(err, errHasLeases) {
		return false
	}
	if failed, ok := errors.AsType[*lockstate.WriteError](err); ok && failed.Fallback != "" {
		s.log.Warn("cannot write the shutdown to the state", "error", err, "written_instead", failed.Fallback)
	} else if err != nil {
		s.log.Error("cannot write the shutdown to the state", "error", err)
	}
	if !s.isClosing.Load() {
		// The state could not even be read.
		if reason == shutdownUnused && tries < maxShutdownTries {
			return false
		}
		s.isClosing.Store(true)
	}
	s.closePorts()
	if err := s.election.Resign(); err != nil {
		s.log.Error("cannot release the election lock", "error", err)
	}
	close(s.endedCh)
	return true
}

// recordShutdown checks the leases, sets isClosing and writes the shutdown to the state. The error is errHasLeases if there are leases
// that keep the supervisor running; after another error isClosing says whether the state could be read.
func (s *Supervisor) recordShutdown(ctx context.Context, reason shutdownReason) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_, err := s.dir.Update(ctx, func(tx *lockstate.Tx) error {
		s.isClosing.Store(false)
		s.store.restoreLost(tx)
		if reason == shutdownUnused && s.hasLeases(tx) {
			return errHasLeases
		}
		s.isClosing.Store(true)
		if other := tx.Supervisor; other != nil && other.Process != lockstate.Self() && other.IsAlive() {
			return errSuperseded // its record stays
		}
		// A client that joined by socket before isClosing was set has been told that the project is up.
		if reason == shutdownUnused && s.hasLeases(tx) {
			s.isClosing.Store(false)
			return errHasLeases
		}
		s.store.applyPending(&tx.State)
		tx.PruneLeases()
		if reason != shutdownUnused {
			tx.RemoveLease(lockstate.StartLease, lockstate.Process{})
		}
		tx.Supervisor, tx.Stopped, tx.Started, tx.Only = nil, nil, nil, nil
		tx.Down = tx.Down || reason == shutdownRequested
		tx.Bump()
		tx.MarkFinal() // or released leases would come back once the disk is no longer full
		return nil
	})
	return err
}

// hasLeases reports whether a state, with the queued changes, has live leases.
func (s *Supervisor) hasLeases(tx *lockstate.Tx) bool {
	s.store.applyPending(&tx.State)
	tx.PruneLeases()
	return len(tx.Leases) > 0
}

// closePorts closes every listener and the control socket, and the keeper's copies of them.
func (s *Supervisor) closePorts() {
	s.keeper.endKeeper()
	active := s.active.Load()
	active.stopServices(slices.Collect(maps.Keys(active.services)))
	s.socket.close()
}

// leaseWatcher waits for the processes that hold leases to exit. It is safe for concurrent use.
type leaseWatcher struct {
	mu        sync.Mutex // guards all
	stopWatch map[lockstate.Process]func()
}

// setLeases watches exactly the processes of these leases. onExit is called when one exits.
func (w *leaseWatcher) setLeases(leases []lockstate.Lease, startTask func(func(context.Context)) func(), onExit func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	wanted := make(map[lockstate.Process]bool, len(leases))
	for _, lease := range leases {
		if lease.Kind == lockstate.StartLease {
			continue
		}
		p := lease.Process
		wanted[p] = true
		if w.stopWatch[p] == nil {
			w.stopWatch[p] = startTask(func(ctx context.Context) {
				if lockstate.WaitExit(ctx, p) == nil {
					onExit()
				}
			})
		}
	}
	for p, end := range w.stopWatch {
		if !wanted[p] {
			end()
			delete(w.stopWatch, p)
		}
	}
}

// close ends all watches.
func (w *leaseWatcher) close() {
	w.setLeases(nil, nil, nil)
}
