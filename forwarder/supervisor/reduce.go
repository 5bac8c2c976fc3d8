package supervisor

import (
	"context"

	"github.com/localport-sh/localport/forwarder/service"
)

// reduce stops the services that no other project shares, directly or as dependencies: nobody else has used the project for its linger time.
func (s *Supervisor) reduce(ctx context.Context) {
	if s.beginOperation(ctx) != nil {
		return
	}
	defer s.endOperation()
	s.isReduced.Store(true) // from now on Join waits; whoever has joined before has a lease
	readCtx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	if err := s.store.refresh(readCtx); err != nil || s.store.hasOwnLeases() {
		s.isReduced.Store(false)
		return
	}
	unneeded := s.unneededServices()
	s.active.Load().stopServices(unneeded)
	s.log.Info("only the services that other projects share stay up", "stopped", unneeded)
	s.saveState(ctx, noChange, true)
}

// unneededServices are the services that run and that no other project shares, directly or as dependencies.
func (s *Supervisor) unneededServices() []string {
	active := s.active.Load()
	var running []string
	for name, svc := range active.services {
		if !svc.Snapshot().IsStopped() {
			running = append(running, name)
		}
	}
	return without(running, withDependencies(active.project.Services, s.loans.services()))
}

// restore starts the services again that reduce has stopped, for somebody who uses the project.
func (s *Supervisor) restore(ctx context.Context) error {
	if !s.isReduced.Load() {
		return nil
	}
	if err := s.beginOperation(ctx); err != nil {
		return err
	}
	defer s.endOperation()
	s.isOpening.Store(true)
	defer s.isOpening.Store(false)
	if !s.isReduced.Swap(false) {
		return nil
	}
	active := s.active.Load()
	active.startServices(wantedServices(active.project, s.selection()), service.StartOptions{Spawned: true})
	s.saveState(ctx, noChange, true)
	return nil
}
