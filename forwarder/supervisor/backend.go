package supervisor

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/control"
	"github.com/localport-sh/localport/forwarder/metrics"
	"github.com/localport-sh/localport/lockstate"
)

var errInUse = errors.New("there are leases")

// Join has the leases looked at again and returns what a newcomer's environment needs.
func (s *Supervisor) Join(_ context.Context, session control.Session) (control.View, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return control.View{}, control.ErrEnding
	}
	if session.Level != "" {
		if err := s.o.Level.UnmarshalText([]byte(session.Level)); err != nil {
			return control.View{}, err
		}
	}
	nudge(s.wake) // the newcomer's lease is written down; whoever ends a supervisor looks at it first
	if s.env.refresh(session) {
		s.keeping.refresh(s.env.inherited())
		s.retry(forwarder.NeedsAttention)
	}
	return s.view(), nil
}

// retry restarts the services that are in a state.
func (s *Supervisor) retry(state forwarder.State) {
	for _, f := range s.forwards {
		if f.running() && f.state() == state {
			f.give(order{})
		}
	}
}

// Leave has the leases looked at again.
func (s *Supervisor) Leave(context.Context, control.LeaveRequest) error {
	nudge(s.wake)
	return nil
}

var reference = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)`)

func (s *Supervisor) view() control.View {
	view := control.View{Digest: s.digest, Env: s.project.Env, DotEnv: map[string]string{}}
	for _, entry := range s.project.Env {
		for _, match := range reference.FindAllStringSubmatch(entry.Template, -1) {
			if value, ok := s.project.DotEnv[match[1]]; ok {
				view.DotEnv[match[1]] = value
			}
		}
	}
	for _, svc := range s.project.Services {
		view.Services = append(view.Services, s.forwards[svc.Name].view())
	}
	return view
}

// Status is the project as it stands.
func (s *Supervisor) Status(context.Context) (control.Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return control.Status{}, control.ErrEnding
	}
	status := control.Status{
		Project: s.project.Root, Config: s.o.Config, State: control.Running, Pending: s.pending(),
		Leases: livingLeases(s.state.Leases),
		Supervisor: &control.SupervisorStatus{
			PID: lockstate.Self().PID, Run: s.o.Run, Version: s.o.Version, Since: s.started.UTC(),
			Socket: s.state.Supervisor.Socket, Log: s.dir.Log("supervisor"),
			Memory: metrics.Memory(), Keeper: s.keeping.pid(),
		},
	}
	for _, warning := range s.project.Warnings {
		status.Warnings = append(status.Warnings, s.mask(warning.String()))
	}
	if s.polling != "" {
		status.Warnings = append(status.Warnings, "the files are compared every 2 s, because no events come: "+s.polling)
	}
	for _, trouble := range []string{s.userTrouble, s.metricsTrouble} {
		if trouble != "" {
			status.Warnings = append(status.Warnings, s.mask(trouble))
		}
	}
	status.Clusters = s.clusters()
	for _, svc := range s.project.Services {
		one := s.forwards[svc.Name].report()
		one.Log = s.dir.Log(svc.Name)
		if c := one.Connections; c.NoRoom != "" {
			status.Warnings = append(status.Warnings,
				fmt.Sprintf("%s: %s: %d open, %d waiting; %s", svc.Name, c.NoRoom, c.Open, c.Unseated, roomHint))
		}
		status.Services = append(status.Services, one)
	}
	return status, nil
}

func livingLeases(leases []lockstate.Lease) []control.Lease {
	living := []control.Lease{}
	for _, l := range leases {
		if l.Alive() {
			living = append(living, control.Lease{Kind: string(l.Kind), PID: l.PID, Start: l.Start, Dir: l.Dir, Since: l.Since})
		}
	}
	return living
}

// watchPace is the least time between two snapshots that a watcher is sent.
const watchPace = 100 * time.Millisecond

// Watch passes the project to on as it stands, and again after each change.
func (s *Supervisor) Watch(ctx context.Context, on func(control.Status) error) error {
	for {
		change := s.changes.wait()
		status, err := s.Status(ctx)
		if err == nil {
			err = on(status)
		}
		if err != nil {
			return err
		}
		pace := time.NewTimer(watchPace)
		for range 2 { // a change, and not too soon after the last
			select {
			case <-change:
				change = nil
			case <-pace.C:
			case <-ctx.Done():
				pace.Stop()
				return ctx.Err()
			case <-s.work.Done():
				pace.Stop()
				return control.ErrEnding
			}
		}
	}
}

// Act starts, stops or restarts services, and remembers it. What the services depend on is started before them; what
// depends on them is stopped before them, and restarted after them. It returns the names of all that were affected.
func (s *Supervisor) Act(_ context.Context, action control.Action, names []string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, control.ErrEnding
	}
	for _, name := range names {
		if s.forwards[name] == nil {
			return nil, fmt.Errorf("no service %q in the config that runs", name)
		}
	}
	meant, needed := s.affected(action, names)
	affected := sorted(s.project.Services, slices.Concat(meant, needed))
	err := s.remember(func(tx *lockstate.Tx) {
		tx.Stopped = without(tx.Stopped, affected)
		tx.Started = without(tx.Started, affected)
		if action == control.Stop {
			tx.Stopped = append(tx.Stopped, affected...)
		} else {
			tx.Started = append(tx.Started, affected...)
		}
	})
	if err != nil {
		return nil, err
	}
	if action == control.Stop {
		s.stopAll(affected)
	} else {
		for _, name := range affected {
			if slices.Contains(meant, name) {
				s.forwards[name].act(s.work, action)
			} else {
				s.forwards[name].act(s.work, control.Start)
			}
		}
	}
	s.rebound()
	return affected, nil
}

// affected are the services that an action on the named ones is meant for, and those that these need to be up.
func (s *Supervisor) affected(action control.Action, names []string) (meant, needed []string) {
	services := s.project.Services
	switch action {
	case control.Start:
		return names, without(withDependencies(services, names), names)
	case control.Stop:
		return withDependents(services, names), nil
	}
	// What was not running for its own sake is not started by the restart of another.
	meant = slices.DeleteFunc(withDependents(services, names), func(name string) bool {
		return !slices.Contains(names, name) && !s.forwards[name].running()
	})
	return meant, without(withDependencies(services, meant), meant)
}

// act does to one forward what was asked.
func (f *forward) act(ctx context.Context, action control.Action) {
	switch {
	case !f.running():
		f.start(ctx)
	case action == control.Start && f.justStarted(): // by the same command, which brought the supervisor up
	case action == control.Restart, f.state() == forwarder.Failed, f.state() == forwarder.NeedsAttention:
		f.enter(forwarder.Restarting)
		f.give(order{})
	}
}

// login has the tunnel opened anew by somebody who answers questions at a socket. A service that waited for a login does so
// again if this one comes to nothing.
func (f *forward) login(ctx context.Context, ask string) {
	if !f.running() {
		f.start(ctx)
	}
	needed := ask != "" && f.state() == forwarder.NeedsAttention
	f.enter(forwarder.Restarting)
	f.give(order{ask: ask, needed: needed})
}

func without(names, drop []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(drop, n) })
}

// Wait returns when each of the named services is settled; with ctx's error if that comes first.
func (s *Supervisor) Wait(ctx context.Context, names []string) error {
	for {
		change := s.changes.wait()
		if s.settled(names) {
			return nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.work.Done():
			return control.ErrEnding
		}
	}
}

func (s *Supervisor) settled(names []string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		if f := s.forwards[name]; f != nil && !f.state().Settled() {
			return false
		}
	}
	return true
}

// Yield gives the ports up at once if nobody is in this project any more and one of the addresses is ours.
func (s *Supervisor) Yield(ctx context.Context, addresses []string) (bool, error) {
	if !s.has(addresses) {
		return false, nil
	}
	return s.retire(ctx, lastOut), nil
}

func (s *Supervisor) has(addresses []string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, svc := range s.project.Services {
		for _, addr := range svc.Listens() {
			if slices.Contains(addresses, addr.String()) && s.forwards[svc.Name].held() {
				return true
			}
		}
	}
	return false
}

// End gives the ports up whoever holds a lease.
func (s *Supervisor) End(ctx context.Context) error {
	if !s.retire(ctx, ordered) {
		return errors.New("the state could not be written; see the supervisor's log")
	}
	return nil
}

// held reports whether the port is ours.
func (f *forward) held() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.relay != nil
}

// listening reports whether clients have a port of ours to connect to. f.mu is held.
func (f *forward) listening() bool { return f.relay != nil && !f.status.svc.Connection.Reverse }

// view is the forward as a client's environment sees it.
func (f *forward) view() control.ServiceView {
	f.mu.Lock()
	defer f.mu.Unlock()
	addr := f.status.svc.Addresses()[0]
	return control.ServiceView{
		Name: f.status.svc.Name, State: f.status.state, Held: f.listening(),
		Host: addr.Addr().String(), Port: int(addr.Port()), Reason: f.status.lastError,
	}
}

// report is the forward as status shows it.
func (f *forward) report() control.ServiceStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, svc := f.status, f.status.svc
	one := control.Declared(svc)
	one.State, one.Target, one.Held = s.state, s.target, f.relay != nil
	one.Health.Checked, one.Health.Latency = moment(s.checked), s.latency.Seconds()
	one.Since, one.UpSince, one.Restarts = s.since.UTC(), moment(s.upSince), s.restarts
	one.LastError, one.Hint = s.lastError, s.hint
	f.figures.put(&one)
	if f.relay != nil {
		one.Connections = connections(f)
	}
	return one
}

func connections(f *forward) control.Connections {
	stats := f.relay.Stats()
	noRoom := ""
	if stats.NoRoom != nil {
		noRoom = stats.NoRoom.Error()
	}
	return control.Connections{
		NoRoom: noRoom, Unseated: stats.Unseated, Resets: stats.Resets,
		Open: stats.Open, Waiting: stats.Waiting, Total: stats.Total, Waited: stats.Waited,
		WaitTime: stats.WaitTime.Seconds(), Replays: stats.Replays, BytesIn: stats.BytesIn, BytesOut: stats.BytesOut,
	}
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
