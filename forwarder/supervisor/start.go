package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/forwarder/service"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/trust"
)

// elect tries to lock the election file and records this supervisor if it won. It returns the record of the previous supervisor
// if that one crashed. A state file that cannot be written does not prevent the election.
func (s *Supervisor) elect(ctx context.Context) (crashed *lockstate.Supervisor, err error) {
	socket, err := s.dir.SocketPath()
	if err != nil {
		return nil, err
	}
	if election := s.inherited.take(electionHoldName); len(election) > 0 {
		return s.inheritElection(ctx, election[0], socket), nil
	}
	state, err := s.dir.Update(ctx, func(tx *lockstate.Tx) error {
		s.election, crashed = nil, nil
		if tx.Down {
			return nil // stopped by the user after the client that started us read the state; it will read that next
		}
		tx.PruneLeases()
		if s.options.Inherit != nil && len(tx.Leases) == 0 && s.inherited.handoffState.State == nil {
			return nil // started by a keeper that has given up the ports, and nobody uses the project any more
		}
		election, err := tx.Elect()
		if err != nil || election == nil {
			return err
		}
		s.election = election
		tx.IsOlderCopy = false // no supervisor knows more
		crashed = tx.Supervisor
		tx.Supervisor, tx.TakeoverUntil = s.newRecord(socket), time.Time{}
		return nil
	})
	if s.election != nil && s.election.IsResigned() {
		s.election = nil // the files were deleted, and the election could not be repeated
	}
	if errors.As(err, new(*lockstate.WriteError)) && s.election != nil {
		s.log.Warn("the state cannot be written", "error", err)
		err = nil
	}
	s.store.setRead(state)
	if crashed != nil && !isDeadWithin(ctx, crashed.Process, deathTimeout) {
		s.log.Warn("the previous supervisor still runs: its election file was deleted, or it is about to end", "pid", crashed.PID)
		s.predecessor, crashed = crashed, nil // it stops its own processes
	}
	return crashed, err
}

// A process that is killed closes its files, and so releases its locks, before it counts as dead (do_exit in the kernel's kernel/exit.c).
const (
	deathTimeout  = 300 * time.Millisecond
	deathInterval = 2 * time.Millisecond
)

// isDeadWithin reports whether a process has ended, or ends within a time.
func isDeadWithin(ctx context.Context, p lockstate.Process, limit time.Duration) bool {
	for deadline := time.Now().Add(limit); p.IsAlive(); {
		if time.Now().After(deadline) || !wait.Sleep(ctx, deathInterval) {
			return false
		}
	}
	return true
}

// sweepCrashed kills the processes and removes the files that a crashed supervisor left behind.
func (s *Supervisor) sweepCrashed(crashed *lockstate.Supervisor) {
	if crashed == nil {
		return
	}
	killed, err := process.KillOrphans(crashed.Run)
	s.log.Warn("the previous supervisor crashed", "pid", crashed.PID, "run", crashed.Run,
		"orphans_killed", killed, "error", errors.Join(err, lockstate.RemoveRunDir(crashed.Run)))
}

// removeAbandoned kills the processes and removes the run directories of supervisors, of any project, that are recorded nowhere because
// they were killed while they started or stopped.
func (s *Supervisor) removeAbandoned() {
	err := lockstate.RemoveAbandonedRunDirs(func(run string) {
		killed, err := process.KillOrphans(run)
		s.log.Warn("a supervisor was killed", "run", run, "orphans_killed", killed, "error", err)
		removeSocketOf(run)
	})
	if err != nil {
		s.log.Warn("cannot remove the run directories of killed supervisors", "error", err)
	}
}

// pruneTimeout bounds pruneStateDirs, which asks the file systems of other projects: one of them may hang.
const pruneTimeout = 5 * time.Second

// pruneStateDirs removes the state of projects that have not existed for a week, and state directories that were not used for a week after they had
// been made. Only a supervisor that ends does it: nobody waits for it.
func (s *Supervisor) pruneStateDirs() {
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		err := lockstate.PruneDirs(time.Now(), func(dir lockstate.ScannedDir) {
			s.log.Info("removed a state directory", "path", dir.Path, "config", dir.Config, "reason", dir.Reason)
		})
		if err != nil {
			s.log.Warn("cannot remove the state of projects that do not exist any more", "error", err)
		}
	}()
	if !wait.IsClosedWithin(pruneTimeout, finished) {
		s.log.Warn("a file system does not answer; the state of projects that do not exist any more is kept", "after", pruneTimeout)
	}
}

// removeSocketOf removes the control socket of a run that was killed. Its project still records the run, or no run if it was stopping.
func removeSocketOf(run string) {
	dirs, _ := lockstate.ListDirs()
	for _, dir := range dirs {
		if record := dir.ReadOrZero().Supervisor; record != nil && record.Run != run {
			continue
		}
		for _, socket := range dir.Sockets() {
			if isDeadSocket(socket) {
				os.Remove(socket)
			}
		}
	}
}

// prepare loads the config, opens every port and the control socket, and gives the keeper copies of them.
// crashed is the record of the previous supervisor if that one crashed.
func (s *Supervisor) prepare(ctx context.Context, crashed *lockstate.Supervisor) (err error) {
	if err := s.runDir.create(ctx); err != nil {
		return err
	}
	_ = s.readUserConfig() // watchFiles tries again
	if err := eventlog.RemoveExpired(s.dir.LogDir(), logLimits(s.userConfig())); err != nil {
		s.log.Warn("cannot remove old logs", "error", err)
	}
	l, err := s.loadInherited()
	if err != nil {
		return err
	}
	s.useConfig(l, nil)
	s.publishDeaths(crashed) // with the settings and the secrets that are known now
	active := newActiveConfig(l)
	for _, svc := range l.project.Services {
		active.services[svc.Name] = s.addService(l.definitions[svc.Name])
	}
	s.resizeClientSlots(active)
	s.active.Store(active)
	trials, err := s.tryLogins(ctx, active)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			closeTrials(trials)
			return
		}
		s.tasks.Go(func() { s.closeTrialsLater(trials) })
	}()
	active.startServices(wantedServices(l.project, s.selection()), service.StartOptions{})
	path, err := s.dir.SocketPath()
	if err != nil {
		return err
	}
	if err := s.socket.listen(path, s.inherited.take(socketHoldName), s.inheritedSocket()); err != nil {
		return fmt.Errorf("listen for clients: %w", err)
	}
	s.recordStart(ctx, l.ports)
	for _, name := range s.inherited.closeUnclaimed() {
		s.keeper.dropInherited(name)
	}
	s.keeper.replaceHeld(electionHoldName, s.election.CopyFiles)
	s.keeper.replaceHeld(socketHoldName, s.socket.copyListener)
	s.updateSuccessor()
	if s.inherited.isPredecessorAlive && s.keeper.hasDied() {
		return errors.New("the keeper ended before it reported that this supervisor is ready; the previous supervisor continues")
	}
	s.events.publish(eventlog.Event{Kind: eventlog.SupervisorStarted, Run: s.options.RunID, Reason: s.options.Version}, "")
	return nil
}

// inheritedSocket is where the inherited control socket was bound. Older supervisors record only its path, in the state.
func (s *Supervisor) inheritedSocket() socketFile {
	if file := s.inherited.handoffState.Socket; file.Path != "" {
		return file
	}
	if record := s.store.state().Supervisor; record != nil {
		if file, err := statSocket(record.Socket); err == nil {
			return file
		}
	}
	return socketFile{}
}

// recordStart records this supervisor and the assigned ports, and has every prompt re-evaluate. Whether the project is down stays as it is: if somebody
// has stopped it while this supervisor was starting, awaitShutdown ends it.
func (s *Supervisor) recordStart(ctx context.Context, ports map[string]int) {
	writeCtx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	s.store.addAndWrite(writeCtx, func(state *lockstate.State) {
		state.Failure, state.Ports = "", ports
		s.recordSelf(state)
	}, true)
}

// abortStart undoes a failed start and records why: prompts do not retry until something changes. If a keeper holds the ports, and
// the next attempt may succeed, the keeper makes it.
func (s *Supervisor) abortStart(ctx context.Context, cause error) {
	s.log.Error("start failed", "error", cause)
	s.isClosing.Store(true)
	switch {
	case s.inherited.isPredecessorAlive:
		s.abortTakeover()
	case s.options.Inherit != nil && startOutcome(cause) == client.OutcomeFailed:
		s.abortTakeover()
		s.recordFailure(ctx, cause)
	default:
		s.releaseAll()
		s.recordFailure(ctx, cause)
		if err := s.election.Resign(); err != nil {
			s.log.Error("resign", "error", err)
		}
	}
	_ = s.runDir.remove()
	s.options.OnStartResult(s.failedReadiness(cause))
}

// failedReadiness reports why the start has failed. The text about a login has the remedy too: an older predecessor passes on no more.
func (s *Supervisor) failedReadiness(cause error) client.Readiness {
	readiness := client.Readiness{Outcome: startOutcome(cause), Error: s.mask(cause.Error())}
	if loss, ok := errors.AsType[*api.LoginLossError](cause); ok {
		readiness.LoginLoss = loss
		readiness.Error += "; to restart without it: " + loss.Remedy()
	}
	return readiness
}

// releaseAll closes the ports, here and at the keeper, which ends.
func (s *Supervisor) releaseAll() {
	s.keeper.endKeeper()
	s.active.Load().stopAll()
	s.socket.close()
}

// recordFailure records in the state why the start failed. Prompts re-evaluate only if that is news: a keeper retries indefinitely.
func (s *Supervisor) recordFailure(ctx context.Context, cause error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_, err := s.dir.Update(ctx, func(tx *lockstate.Tx) error {
		tx.Supervisor = nil
		if text := s.mask(cause.Error()); text != tx.Failure {
			tx.Failure = text
			tx.Bump()
		}
		return nil
	})
	if err != nil {
		s.log.Error("cannot record the failed start", "error", err)
	}
}

func startOutcome(err error) client.Outcome {
	switch {
	case errors.Is(err, errNotAllowed):
		return client.OutcomeNotAllowed
	case errors.As(err, new(*project.InvalidError)):
		return client.OutcomeInvalid
	}
	return client.OutcomeFailed
}

// applyJoins repairs the environment from those of clients that join, until ctx ends. It dials sockets and reads directories, so Join does not wait
// for it.
func (s *Supervisor) applyJoins(ctx context.Context) {
	receiveEach(ctx, s.joinCh, func(request api.JoinRequest) {
		if s.env.repair(request, s.active.Load().doSSHKeysFail()) {
			s.updateSuccessor()
			s.active.Load().retryNeedsAttention()
		}
	})
}

// inheritElection takes over the election lock of the predecessor, and returns its record if it has died.
func (s *Supervisor) inheritElection(ctx context.Context, election *os.File, socket string) *lockstate.Supervisor {
	s.election = s.dir.Inherit(election)
	if state := s.inherited.handoffState.State; state != nil {
		s.store.set(*state)
		s.store.add(mergeHandoffState(*state, s.inherited.handoffState.At))
	}
	_ = s.store.sync(ctx)
	if s.inherited.isPredecessorAlive { // the record stays the predecessor's until this one is ready
		return nil
	}
	crashed := s.store.state().Supervisor
	s.store.addAndWrite(ctx, func(state *lockstate.State) { state.Supervisor = s.newRecord(socket) }, false)
	if crashed == nil || s.inherited.handoffState.Terminated && crashed.IsAlive() {
		return nil // it has left the project to its keeper, which sweeps when it has ended
	}
	if !isDeadWithin(ctx, crashed.Process, deathTimeout) {
		return nil
	}
	return crashed
}

// mergeHandoffState is the change that the predecessor could not write: its leases replace those of the file, except leases that were
// written after at.
func mergeHandoffState(remembered lockstate.State, at time.Time) change {
	return func(state *lockstate.State) {
		stored := state.Leases
		state.Leases = slices.Clone(remembered.Leases)
		for _, lease := range stored {
			if lease.Since.After(at) {
				state.AddLease(lease)
			}
		}
		state.Ports = remembered.Ports
		state.Stopped, state.Started, state.Only = remembered.Stopped, remembered.Started, remembered.Only
	}
}

// loadInherited loads the config from disk, or the predecessor's if that on disk cannot be used.
func (s *Supervisor) loadInherited() (*loadedConfig, error) {
	l, err := s.loadConfig()
	old := s.inherited.handoffState.Files
	if err == nil || old == nil {
		return l, err
	}
	old.Root, old.Path = s.root(), s.options.Config // in JSON they may have lost bytes
	verdict, old, askErr := s.source.trust.Ask(old)
	if askErr != nil || verdict != trust.Allowed {
		return nil, err
	}
	s.log.Warn("the files cannot be used; using those of the previous supervisor", "error", s.mask(err.Error()))
	return s.parseConfig(old)
}

// inheritFromKeeper receives what a keeper holds, if one started this supervisor.
func (s *Supervisor) inheritFromKeeper() error {
	s.inherited = &inheritance{}
	if s.options.Inherit == nil {
		return nil
	}
	link, handed, err := s.options.Inherit()
	if err != nil {
		return err
	}
	s.keeper.setLink(link)
	s.inherited.isPredecessorAlive, s.inherited.files, s.inherited.deaths = handed.IsPredecessorAlive, handed.Files, handed.Deaths
	if err := json.Unmarshal(handed.State, &s.inherited.handoffState); err != nil {
		return fmt.Errorf("decode the state of the previous supervisor: %w", err)
	}
	return nil
}
