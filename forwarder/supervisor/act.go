package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/service"
	"github.com/localport-sh/localport/lockstate"
)

// Act starts, stops or restarts services, and remembers it. What the services depend on is started before them; what depends on
// them is stopped with them, and restarted after them. It returns the names of all that were affected when their ports are open
// or closed and status shows it; their tunnels come and go afterwards.
func (s *Supervisor) Act(ctx context.Context, r api.ActRequest) ([]string, error) {
	if err := s.beginAct(ctx); err != nil {
		return nil, err
	}
	defer s.endAct()
	p := s.plan.Load()
	if err := p.know(r.Names); err != nil {
		return nil, err
	}
	meant, needed := p.affected(r.Action, r.Names)
	affected := inDependencyOrder(p.project.Services, slices.Concat(meant, needed))
	switch r.Action {
	case api.Stop:
		p.stopServices(affected)
	case api.Restart:
		p.startServices(needed, service.StartOptions{Spawned: r.Spawned})
		for _, name := range inDependencyOrder(p.project.Services, meant) {
			p.services[name].Restart()
		}
	default:
		p.startServices(affected, service.StartOptions{Spawned: r.Spawned})
	}
	s.save(func(state *lockstate.State) {
		state.Stopped, state.Started = without(state.Stopped, affected), without(state.Started, affected)
		if r.Action == api.Stop {
			state.Stopped = append(state.Stopped, affected...)
		} else {
			state.Started = append(state.Started, affected...)
		}
	}, true)
	return affected, nil
}

// know returns an error that names the first service that the plan does not have.
func (p *plan) know(names []string) error {
	for _, name := range names {
		if p.services[name] == nil {
			return fmt.Errorf("no service %q in the config that runs", name)
		}
	}
	return nil
}

// affected are the services that an action on the named ones is meant for, and those that these need to be up.
func (p *plan) affected(action api.Action, names []string) (meant, needed []string) {
	services := p.project.Services
	switch action {
	case api.Start:
		return names, without(withDependencies(services, names), names)
	case api.Stop:
		return withDependents(services, names), nil
	}
	// What was not running for its own sake is not started by the restart of another.
	meant = slices.DeleteFunc(withDependents(services, names), func(name string) bool {
		return !slices.Contains(names, name) && p.services[name].Snapshot().State == forwarder.Stopped
	})
	return meant, without(withDependencies(services, meant), meant)
}

// Login takes a login that the user went through in the foreground, and has the services tried again that it is for.
func (s *Supervisor) Login(ctx context.Context, r api.LoginRequest) error {
	if err := s.beginAct(ctx); err != nil {
		return err
	}
	defer s.endAct()
	p := s.plan.Load()
	if err := p.know(r.Names); err != nil {
		return err
	}
	for _, name := range r.Names {
		now := p.services[name].Snapshot()
		receiver, ok := now.Driver.(forwarder.CredentialReceiver)
		if len(r.Credential) == 0 || !ok {
			continue
		}
		run := forwarder.Run{Dir: s.root(), Env: s.env.list(), Log: io.Discard}
		if err := receiver.ReceiveCredential(now.Service, run, r.Credential); err != nil {
			return fmt.Errorf("service %q: %w", name, err)
		}
	}
	for _, name := range r.Names {
		p.services[name].LogIn(r.Ask)
	}
	return nil
}

// Wait returns when each of the named services is settled; with ctx's error if that comes first.
func (s *Supervisor) Wait(ctx context.Context, names []string) error {
	for {
		change := s.changes.Changed()
		if s.plan.Load().isSettled(names) {
			return nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ended:
			return api.ErrEnding
		}
	}
}

func (p *plan) isSettled(names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool {
		svc := p.services[name]
		return svc != nil && !svc.Snapshot().State.Settled()
	})
}

// Yield gives the ports up at once if nobody is in this project any more and one of the addresses is ours.
func (s *Supervisor) Yield(ctx context.Context, addresses []string) (bool, error) {
	if !s.plan.Load().holds(addresses) {
		return false, nil
	}
	return s.requestRetire(ctx, reasonUnused), nil
}

// holds reports whether one of the addresses is listened on.
func (p *plan) holds(addresses []string) bool {
	for _, svc := range p.services {
		now := svc.Snapshot()
		for _, addr := range now.Service.ListenAddresses() {
			if now.Held() && slices.Contains(addresses, addr.String()) {
				return true
			}
		}
	}
	return false
}

// End gives the ports up whoever holds a lease.
func (s *Supervisor) End(ctx context.Context) error {
	if !s.requestRetire(ctx, reasonOrdered) {
		return errors.New("the supervisor could not end; see its log")
	}
	return nil
}
