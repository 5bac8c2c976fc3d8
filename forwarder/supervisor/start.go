package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/forwarder/service"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
)

// elect tries for the project's election lock, and records this supervisor if it won. It returns the record of the one before,
// if that one did not end by itself. A state that cannot be written keeps nobody from being elected.
func (s *Supervisor) elect(ctx context.Context) (before *lockstate.Supervisor, err error) {
	socket, err := s.dir.SocketPath()
	if err != nil {
		return nil, err
	}
	if election := s.inherited.take(keptElection); len(election) > 0 {
		return s.succeed(ctx, election[0], socket), nil
	}
	state, err := s.dir.Update(ctx, func(tx *lockstate.Tx) error {
		s.election, before = nil, nil
		if tx.Down {
			return nil // stopped by the user since whoever started us looked; the next look of theirs finds that
		}
		election, err := tx.Elect()
		if err != nil || election == nil {
			return err
		}
		s.election = election
		before = tx.Supervisor
		tx.Supervisor = s.record(socket)
		tx.Prune()
		return nil
	})
	if errors.As(err, new(*lockstate.WriteError)) && s.election != nil {
		s.log.Warn("the state cannot be written", "error", err)
		err = nil
	}
	s.store.set(state)
	if before != nil && before.Alive() {
		s.log.Warn("the supervisor before this one still runs: its election file was deleted, or it is about to end", "pid", before.PID)
		s.predecessor, before = before, nil // what it has left is its own to end
	}
	return before, err
}

// sweep ends what a supervisor that was killed left behind.
func (s *Supervisor) sweep(before *lockstate.Supervisor) {
	if before == nil {
		return
	}
	killed, err := sweepOrphans(before.Run)
	s.log.Warn("the supervisor before this one did not end by itself", "pid", before.PID, "run", before.Run,
		"orphans_killed", killed, "error", err)
	if dir, err := lockstate.RuntimeDir(); err == nil && before.Run != "" {
		_ = os.RemoveAll(filepath.Join(dir, filepath.Base(before.Run)))
	}
}

// sweepOrphans ends what still runs of a supervisor's tunnels.
func sweepOrphans(run string) (killed int, err error) { return process.KillOrphans(run) }

// prepare does all that must be done before clients are told ready.
func (s *Supervisor) prepare(ctx context.Context) error {
	s.folder.run = s.o.Run
	if err := s.folder.begin(); err != nil {
		return err
	}
	s.readUser()
	if err := eventlog.RemoveExpired(s.dir.LogDir(), limits(s.userConfig())); err != nil {
		s.log.Warn("remove old logs", "error", err)
	}
	l, err := s.loadInherited()
	if err != nil {
		return err
	}
	s.adopt(l)
	p := &plan{files: l.files, project: l.project, digest: l.files.Digest(), services: make(map[string]*runningService)}
	for _, svc := range l.project.Services {
		p.services[svc.Name] = s.addService(l.definitions[svc.Name])
	}
	s.resizeSeats(p)
	s.plan.Store(p)
	p.startServices(wantedServices(l.project, s.wishes()), service.StartOptions{})
	path, err := s.dir.SocketPath()
	if err != nil {
		return err
	}
	if err := s.socket.listen(path, s.inherited.take(keptSocket), s.inheritedSocket()); err != nil {
		return fmt.Errorf("listen for clients: %w", err)
	}
	s.announce(ctx, l.ports)
	for _, name := range s.inherited.rest() {
		s.keeping.dropInherited(name)
	}
	s.keeping.holdInstead(keptElection, s.election.CopyFiles)
	s.keeping.holdInstead(keptSocket, s.socket.files)
	s.remind()
	s.news.tell(eventlog.Event{Kind: eventlog.SupervisorStarted, Run: s.o.Run, Reason: s.o.Version}, "")
	return nil
}

// inheritedSocket is where the socket that was handed over was bound; an older supervisor tells its path alone, in the state.
func (s *Supervisor) inheritedSocket() socketFile {
	if file := s.inherited.memory.Socket; file.Path != "" {
		return file
	}
	if record := s.store.state().Supervisor; record != nil {
		if file, err := statSocket(record.Socket); err == nil {
			return file
		}
	}
	return socketFile{}
}

// announce records this supervisor and the ports that were given out, and makes every prompt look again.
func (s *Supervisor) announce(ctx context.Context, ports map[string]int) {
	limited, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	s.store.record(limited, func(state *lockstate.State) {
		state.Failure, state.Ports, state.Down = "", ports, false
		s.recordSelf(state)
	}, true)
}

// abandon gives up a start: nothing stays, and prompts do not try again until something changes.
func (s *Supervisor) abandon(cause error) {
	s.log.Error("start failed", "error", cause)
	s.closing.Store(true)
	if s.inherited.alive {
		s.withdraw(cause)
		return
	}
	s.keeping.end()
	s.plan.Load().stopAll()
	s.socket.close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_, err := s.dir.Update(ctx, func(tx *lockstate.Tx) error {
		tx.Supervisor, tx.Failure = nil, s.mask(cause.Error())
		tx.Bump()
		return nil
	})
	if err := errors.Join(err, s.election.Resign()); err != nil {
		s.log.Error("write the state", "error", err)
	}
	_ = s.folder.clean()
	s.o.Say(client.Readiness{Outcome: outcome(cause), Error: s.mask(cause.Error())})
}

func outcome(err error) client.Outcome {
	var invalid *project.InvalidError
	switch {
	case errors.Is(err, errNotAllowed):
		return client.OutcomeNotAllowed
	case errors.As(err, &invalid):
		return client.OutcomeInvalid
	}
	return client.OutcomeFailed
}

// takeSessions takes over from newcomers' environments what stopped working in ours, until ctx ends. It asks sockets and files,
// for which no newcomer waits.
func (s *Supervisor) takeSessions(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case session := <-s.sessions:
			if s.env.refresh(session) {
				s.keeping.refresh(s.env.inherited())
				s.plan.Load().retryNeedsAttention()
			}
		}
	}
}

// stateChanged is called after each change of the state that is known. What cannot be written, the keeper is told.
func (s *Supervisor) stateChanged() {
	s.changes.Announce()
	_, behind := s.store.isBehind()
	if behind != s.wasBehind.Swap(behind) || behind {
		wait.Notify(s.remindCh)
	}
}

// remindKeeper tells the keeper what could not be written, and when it has been, until ctx ends.
func (s *Supervisor) remindKeeper(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.remindCh:
			s.remind()
		}
	}
}
