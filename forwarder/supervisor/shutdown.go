package supervisor

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/localport-sh/localport/lockstate"
)

// maxShutdownTries is the number of attempts to shut down under the state's lock. After it, an unused supervisor shuts down without
// the lock: a client that joins meanwhile gets api.ErrEnding and starts another.
const maxShutdownTries = 3

var (
	errHasLeases  = errors.New("the project has leases")
	errSuperseded = errors.New("another supervisor has been elected")
)

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

// tryShutDown closes the ports and releases the election, after checking the leases once more under the state's lock: a client that
// comes later finds free ports and no supervisor. Tunnels are still up when it returns. False if there are leases, also those that connected
// programs get only now, or if it must be tried again.
func (s *Supervisor) tryShutDown(ctx context.Context, reason shutdownReason, tries int) bool {
	if reason == shutdownUnused && !hasLivingLeases(s.store.state()) && s.leaseConnectedPrograms(ctx) {
		return false
	}
	s.operationSlot <- struct{}{}
	defer s.endOperation()
	if s.isClosing.Load() {
		return true
	}
	if s.isSuperseded.Load() { // the state file is another supervisor's; only the cached leases are ours
		if reason == shutdownUnused && hasLivingLeases(s.store.state()) {
			return false
		}
		s.closePortsForElected(s.connectionLimit(reason))
		return true
	}
	keepUntil, err := s.recordShutdown(ctx, reason)
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
		// A client that joined by socket before that has been told that the project is up.
		if reason == shutdownUnused && hasLivingLeases(s.store.state()) {
			s.isClosing.Store(false)
			return false
		}
		keepUntil = s.connectionLimit(reason)
	}
	s.passOn(s.loans.services())
	s.closePorts(keepUntil)
	if err := s.election.Resign(); err != nil {
		s.log.Error("cannot release the election lock", "error", err)
	}
	close(s.endedCh)
	return true
}

// hasLivingLeases reports whether a state has leases that are still valid.
func hasLivingLeases(state lockstate.State) bool {
	state.PruneLeases()
	return len(state.Leases) > 0
}

// recordShutdown checks the leases, sets isClosing and writes the shutdown to the state. The error is errHasLeases if there are leases
// that keep the supervisor running; after another error isClosing says whether the state could be read. keepUntil is until when established
// connections stay.
func (s *Supervisor) recordShutdown(ctx context.Context, reason shutdownReason) (keepUntil time.Time, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_, err = s.dir.Update(ctx, func(tx *lockstate.Tx) error {
		s.isClosing.Store(false)
		s.store.restoreLost(tx)
		if reason == shutdownUnused && s.hasLeases(tx) {
			return errHasLeases
		}
		s.isClosing.Store(true)
		if keepUntil = s.connectionLimit(reason); tx.Down { // the user is stopping the project
			keepUntil = time.Time{}
		}
		if other := tx.Supervisor; other != nil && other.Process != s.self && other.IsAlive() {
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
		tx.Leases = slices.DeleteFunc(tx.Leases, func(l lockstate.Lease) bool { return l.Kind == lockstate.BorrowedLease })
		tx.Supervisor, tx.Stopped, tx.Started, tx.Only = nil, nil, nil, nil
		if !keepUntil.IsZero() { // recorded before the election is free: a "stop" after that finds this supervisor here
			s.recordedDrain = lockstate.Draining{Process: s.self, Connections: s.active.Load().openConnections(), Until: keepUntil}
			tx.SetDraining(s.recordedDrain)
		}
		tx.Down = tx.Down || reason == shutdownRequested
		tx.Bump()
		tx.MarkFinal() // or released leases would come back once the disk is no longer full
		return nil
	})
	return keepUntil, err
}

// A SIGTERM means that everything is to end, as at a logout or shutdown, if the keeper ends within keeperTermTimeout too, or if the
// predecessor got one as well and this supervisor is younger than terminationWindow.
const (
	keeperTermTimeout = 500 * time.Millisecond
	terminationWindow = 10 * time.Second
)

// onTerminate ends the supervisor after a SIGTERM. While there are leases, the keeper starts another and the ports stay open, unless
// the keeper is being terminated too.
func (s *Supervisor) onTerminate(ctx context.Context) {
	terminatedAt := time.Now() // at a logout, the state may be locked for a while
	terminatedTwice := s.inherited.handoffState.Terminated && !s.inherited.isPredecessorAlive && time.Since(s.startedAt) < terminationWindow
	count, _ := s.countLeases(ctx)
	waitCtx, cancel := context.WithTimeout(ctx, keeperTermTimeout)
	defer cancel()
	if count == (leaseCount{}) && s.tryShutDown(ctx, shutdownUnused, maxShutdownTries) {
		s.log.Info("ended by a signal")
		return
	}
	if s.keeper.pid() != 0 {
		s.stopAccepting() // else connections accepted from now on would be reset with the established ones
	}
	if terminatedTwice || s.keeper.waitKeeperDeath(waitCtx, terminatedAt.Add(-keeperTermTimeout)) {
		s.log.Info("ended by a signal, like its keeper")
		s.tryShutDown(ctx, shutdownRequested, maxShutdownTries)
		return
	}
	s.log.Info("ended by a signal; the keeper starts another supervisor")
	s.handOverToKeeper()
}

// handOverToKeeper leaves the ports to the keeper. Established connections are reset; new ones wait in the keeper's listeners.
func (s *Supervisor) handOverToKeeper() {
	s.operationSlot <- struct{}{}
	defer s.endOperation()
	if s.isClosing.Load() {
		return // replaced meanwhile
	}
	s.isClosing.Store(true)
	s.isTerminated.Store(true)
	s.updateSuccessor()
	for _, svc := range s.active.Load().services {
		if port := svc.Snapshot().Port(); port != nil {
			// Reset clients before their tunnel ends: a client could mistake that for a regular end of file.
			_ = port.Close()
		}
	}
	if !s.keeper.leaveToKeeper() {
		s.closePorts(time.Time{})
		_ = s.election.Resign()
	}
	s.socket.closeListener()
	_ = s.election.Handover()
	close(s.endedCh)
}
