package supervisor

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/handoff"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
)

// updateSuccessor tells the keeper how to start the next supervisor, and with which state.
func (s *Supervisor) updateSuccessor() {
	s.successorSlot <- struct{}{} // what is computed last is sent last
	defer func() { <-s.successorSlot }()
	active := s.active.Load()
	handoffState := handoffState{Files: active.files, Socket: s.socket.boundFile(), At: time.Now(), Terminated: s.isTerminated.Load(), LoggedIn: s.loggedInServices()}
	if s.store.writeError() != nil {
		state := s.store.state()
		handoffState.State = &state
	}
	data, err := json.Marshal(handoffState)
	if err != nil {
		s.log.Error("encode the state for the next supervisor", "error", err)
		return
	}
	s.keeper.setSuccessor(handoff.Successor{
		Exe: s.options.Exe, Args: []string{"supervise", "--config", s.options.Config, "--kept", "--log-level", strings.ToLower(s.options.LogLevel.Level().String())},
		Env: s.successorEnviron(), Log: s.dir.LogPath("supervisor"), State: data,
		Supervisor: s.self, Run: s.options.RunID,
	})
}

// successorEnviron is the environment of the next supervisor.
func (s *Supervisor) successorEnviron() []string {
	if shell := s.replacementShell.Load(); shell != nil {
		return shell.List()
	}
	return s.env.shellEnviron()
}

// keepSuccessorUpdated updates the keeper's copy whenever successorStaleCh says that it is out of date, until ctx ends.
func (s *Supervisor) keepSuccessorUpdated(ctx context.Context) {
	receiveEach(ctx, s.successorStaleCh, func(struct{}) { s.updateSuccessor() })
}

// onStateChange is called after each change of the known state. The keeper gets a copy of what cannot be written.
func (s *Supervisor) onStateChange() {
	s.changes.Announce()
	hasWriteError := s.store.writeError() != nil
	if s.hadWriteError.Swap(hasWriteError) || hasWriteError {
		wait.Notify(s.successorStaleCh)
	}
}

// newRecord is the record of this supervisor in the state.
func (s *Supervisor) newRecord(socket string) *lockstate.Supervisor {
	record := &lockstate.Supervisor{
		Process: s.self, Run: s.options.RunID, Socket: socket, Version: s.options.Version, Since: s.startedAt.UTC(),
		Keeper: s.keeper.pid(),
	}
	if services := s.recordedServices(); services != nil {
		record.Services, record.ServicesAt = services, time.Now().UTC()
	}
	return record.Here()
}

// recordedServices are the services for the record in the state; nil if the config is not loaded yet.
func (s *Supervisor) recordedServices() (recorded []lockstate.RecordedService) {
	active := s.active.Load()
	if active == nil {
		return nil
	}
	for _, svc := range active.project.Services {
		now := active.services[svc.Name].Snapshot()
		recorded = append(recorded, lockstate.RecordedService{
			Name: svc.Name, Addresses: api.ConfiguredStatus(now.Service).Addresses, Held: now.IsPortHeld() && !now.Service.Reverse,
		})
	}
	return recorded
}

// keepServicesRecorded records the services whenever one gets, loses or changes its port, until ctx ends.
func (s *Supervisor) keepServicesRecorded(ctx context.Context) {
	for {
		change := s.changes.Changed()
		recorded := s.recordedServices()
		known := s.store.state().Supervisor
		if known != nil && known.Process == s.self && !s.isClosing.Load() && !slices.EqualFunc(recorded, known.Services, lockstate.RecordedService.Equal) {
			at := time.Now().UTC()
			s.store.add(func(state *lockstate.State) {
				if state.Supervisor != nil && state.Supervisor.Process == s.self {
					state.Supervisor.Services, state.Supervisor.ServicesAt = recorded, at
				}
			})
		}
		select {
		case <-change:
		case <-s.endedCh:
			return
		case <-ctx.Done():
			return
		}
		if !wait.Sleep(ctx, watchInterval) {
			return
		}
	}
}

// recordSelf is a change: it records this supervisor.
func (s *Supervisor) recordSelf(state *lockstate.State) {
	before := state.Supervisor
	state.Supervisor = s.newRecord(s.socket.path())
	if before != nil && before.Process == s.self {
		state.Supervisor.Refused, state.Supervisor.RefusedAt = before.Refused, before.RefusedAt
	}
}

// recordKeeper records the keeper's pid: the system may name it as the holder of a port.
func (s *Supervisor) recordKeeper(ctx context.Context, pid int) {
	s.saveState(ctx, func(state *lockstate.State) {
		if state.Supervisor != nil && state.Supervisor.Process == s.self {
			state.Supervisor.Keeper = pid
		}
	}, false)
}
