package supervisor

import (
	"context"
	"time"
)

// A SIGTERM means that everything is to end, as at a logout or shutdown, if the keeper ends within keeperTermTimeout too, or if the
// predecessor got one as well and this supervisor is younger than terminationWindow.
const (
	keeperTermTimeout = 500 * time.Millisecond
	terminationWindow = 10 * time.Second
)

// onTerminate ends the supervisor after a SIGTERM. While there are leases, the keeper starts another and the ports stay open, unless
// the keeper is being terminated too.
func (s *Supervisor) onTerminate(ctx context.Context) {
	terminatedTwice := s.inherited.handoffState.Terminated && !s.inherited.isPredecessorAlive && time.Since(s.startedAt) < terminationWindow
	count, _ := s.countLeases(ctx)
	waitCtx, cancel := context.WithTimeout(ctx, keeperTermTimeout)
	defer cancel()
	if count == 0 && s.tryShutDown(ctx, shutdownUnused, maxShutdownTries) {
		s.log.Info("ended by a signal")
		return
	}
	if s.keeper.pid() != 0 {
		s.stopAccepting() // else connections accepted from now on would be reset with the established ones
	}
	if terminatedTwice || s.keeper.waitKeeperDeath(waitCtx, keeperTermTimeout) {
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
		s.closePorts()
		_ = s.election.Resign()
	}
	s.socket.closeListener()
	_ = s.election.Handover()
	close(s.endedCh)
}
