package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/handoff"
	"github.com/localport-sh/localport/lockstate"
)

var errNoKeeper = errors.New("no keeper is running and none could be started; the supervisor's log says why")

// updateSuccessor tells the keeper how to start the next supervisor, and with which state.
func (s *Supervisor) updateSuccessor() {
	active := s.active.Load()
	handoffState := handoffState{Files: active.files, Socket: s.socket.boundFile(), At: time.Now(), Terminated: s.isTerminated.Load()}
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
		Supervisor: lockstate.Self(), Run: s.options.RunID,
	})
}

// Replace hands the project over to a new supervisor: leases, ports and connections that wait in the kernel's queues. This one
// drains its own connections. After an error it continues unchanged.
func (s *Supervisor) Replace(ctx context.Context, r api.ReplaceRequest) error {
	if err := s.beginOperation(ctx); err != nil {
		return err
	}
	defer s.endOperation()
	s.log.Info("replaced by another supervisor", "exe", r.Exe, "version", r.Version)
	successorEndedCh, err := s.keeper.startSuccessor(ctx, r.Exe)
	if err != nil {
		err = fmt.Errorf("start %s: %w", r.Exe, err)
		s.recordFailedReplacement(ctx, r, err)
		return err
	}
	s.startDraining(successorEndedCh)
	s.socket.closeListener()
	_ = s.election.Handover()
	close(s.endedCh)
	return nil
}

// startDraining stops accepting, after another supervisor has copies of the listeners. Established connections stay open until
// successorEndedCh is closed.
func (s *Supervisor) startDraining(successorEndedCh <-chan struct{}) {
	s.mu.Lock()
	s.successorEndedCh = successorEndedCh
	s.mu.Unlock()
	s.isClosing.Store(true)
	s.stopAccepting()
}

// stopAccepting closes this process's listeners: new connections wait in the queues of the copies.
func (s *Supervisor) stopAccepting() {
	for _, svc := range s.active.Load().services {
		if port := svc.Snapshot().Port(); port != nil {
			port.StopAccepting()
		}
	}
}

// recordFailedReplacement records this supervisor again, and that the other version failed to replace it and is not to try again.
func (s *Supervisor) recordFailedReplacement(ctx context.Context, r api.ReplaceRequest, cause error) {
	s.log.Error("the replacement failed; this supervisor continues", "version", r.Version, "error", cause)
	s.saveState(ctx, func(state *lockstate.State) {
		s.recordSelf(state)
		state.Supervisor.Refused = r.Version
	}, true)
}

// drainConnections waits until every connection has ended, the successor has ended, or ctx ends.
func (s *Supervisor) drainConnections(ctx context.Context, successorEndedCh <-chan struct{}) {
	left := maps.Clone(s.active.Load().services)
	tick := time.NewTicker(5 * time.Second) // lastClientCh holds one signal for all services
	defer tick.Stop()
	for {
		for name, svc := range left {
			if stats := svc.Snapshot().Stats(); stats.Open+stats.Waiting == 0 {
				delete(left, name)
				svc.Stop()
			}
		}
		if len(left) == 0 {
			return
		}
		select {
		case <-s.lastClientCh:
		case <-tick.C:
		case <-successorEndedCh:
			return
		case <-ctx.Done():
			return
		}
	}
}

// newRecord is the record of this supervisor in the state.
func (s *Supervisor) newRecord(socket string) *lockstate.Supervisor {
	return &lockstate.Supervisor{
		Process: lockstate.Self(), Run: s.options.RunID, Socket: socket, Version: s.options.Version, Since: s.startedAt.UTC(),
		Keeper: s.keeper.pid(),
	}
}

// recordSelf is a change: it records this supervisor.
func (s *Supervisor) recordSelf(state *lockstate.State) {
	refused := ""
	if state.Supervisor != nil && state.Supervisor.Process == lockstate.Self() {
		refused = state.Supervisor.Refused
	}
	state.Supervisor = s.newRecord(s.socket.path())
	state.Supervisor.Refused = refused
}

// recordKeeper records the keeper's pid: the system may name it as the holder of a port.
func (s *Supervisor) recordKeeper(ctx context.Context, pid int) {
	s.saveState(ctx, func(state *lockstate.State) {
		if state.Supervisor != nil && state.Supervisor.Process == lockstate.Self() {
			state.Supervisor.Keeper = pid
		}
	}, false)
}

// abortTakeover gives up taking over from a predecessor, which continues unchanged if it is alive, or from a keeper.
func (s *Supervisor) abortTakeover() {
	s.keeper.disconnect()
	s.active.Load().stopAll()
	s.socket.closeListener()
	_ = s.election.Handover()
}
