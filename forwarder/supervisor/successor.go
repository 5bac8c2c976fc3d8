package supervisor

import (
	"context"
	"encoding/json"
	"strings"
	"time"

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
		Env: s.env.successorEnviron(), Log: s.dir.LogPath("supervisor"), State: data,
		Supervisor: s.self, Run: s.options.RunID,
	})
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
	return record.Here()
}

// recordSelf is a change: it records this supervisor.
func (s *Supervisor) recordSelf(state *lockstate.State) {
	refused := ""
	if state.Supervisor != nil && state.Supervisor.Process == s.self {
		refused = state.Supervisor.Refused
	}
	state.Supervisor = s.newRecord(s.socket.path())
	state.Supervisor.Refused = refused
}

// recordKeeper records the keeper's pid: the system may name it as the holder of a port.
func (s *Supervisor) recordKeeper(ctx context.Context, pid int) {
	s.saveState(ctx, func(state *lockstate.State) {
		if state.Supervisor != nil && state.Supervisor.Process == s.self {
			state.Supervisor.Keeper = pid
		}
	}, false)
}
