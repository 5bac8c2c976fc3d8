package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/service"
	"github.com/localport-sh/localport/lockstate"
)

// ApplyAction starts, stops or restarts services, and records it. Dependencies are started first; dependents are stopped too, or
// restarted afterwards. It returns the names of all affected services when their ports are open or closed and status shows it;
// their tunnels open and close afterwards. The error is api.ErrEnding, ctx's, names the first unknown service, or says why the config
// cannot be used with the environment in the request.
func (s *Supervisor) ApplyAction(ctx context.Context, r api.ActionRequest) ([]string, error) {
	env := s.readShellEnvironment(r.Environment)
	if err := s.beginOperation(ctx); err != nil {
		return nil, err
	}
	defer s.endOperation()
	if err := s.active.Load().requireServices(r.Names); err != nil {
		return nil, err
	}
	if err := s.takeEnvironment(ctx, env); err != nil {
		return nil, err
	}
	active := s.active.Load()
	targets, needed := active.affectedBy(r.Action, r.Names)
	affected := inDependencyOrder(active.project.Services, slices.Concat(targets, needed))
	options := service.StartOptions{Spawned: r.Spawned, RequestedAt: time.Now()}
	switch r.Action {
	case api.ActionStop:
		s.passOn(affected)
		s.active.Load().stopServices(affected)
		s.siblings.close()
	case api.ActionRestart:
		s.passOnChanged(active.project.Services, targets)
		active = s.active.Load()
		active.startServices(needed, options)
		for _, name := range inDependencyOrder(active.project.Services, targets) {
			active.services[name].Restart(options.RequestedAt)
		}
	default:
		active.startServices(affected, options)
	}
	s.saveState(ctx, func(state *lockstate.State) {
		state.Stopped, state.Started = without(state.Stopped, affected), without(state.Started, affected)
		if r.Action == api.ActionStop {
			state.Stopped = append(state.Stopped, affected...)
		} else {
			state.Started = append(state.Started, affected...)
		}
	}, true)
	return affected, nil
}

// requireServices returns an error that names the first unknown service.
func (c *activeConfig) requireServices(names []string) error {
	for _, name := range names {
		if c.services[name] == nil {
			return fmt.Errorf("the active config has no service %q", name)
		}
	}
	return nil
}

// affectedBy returns the services that an action on the named ones applies to, and the dependencies that must run for it.
func (c *activeConfig) affectedBy(action api.Action, names []string) (targets, needed []string) {
	services := c.project.Services
	switch action {
	case api.ActionStart:
		return names, without(withDependencies(services, names), names)
	case api.ActionStop:
		return withDependents(services, names), nil
	}
	// A restart does not start dependents that are stopped.
	targets = slices.DeleteFunc(withDependents(services, names), func(name string) bool {
		return !slices.Contains(names, name) && c.services[name].Snapshot().State == forwarder.Stopped
	})
	return targets, without(withDependencies(services, targets), targets)
}

// Login passes the credential of a login to the drivers of the services that it is for, and has these services reconnect. The error is
// api.ErrEnding, ctx's, or about an unknown service, the environment or the credential.
func (s *Supervisor) Login(ctx context.Context, r api.LoginRequest) error {
	env := s.readShellEnvironment(r.Environment)
	if err := s.beginOperation(ctx); err != nil {
		return err
	}
	defer s.endOperation()
	if err := s.active.Load().requireServices(r.Names); err != nil {
		return err
	}
	if err := s.takeEnvironment(ctx, env); err != nil {
		return err
	}
	active := s.active.Load()
	for _, name := range r.Names {
		now := active.services[name].Snapshot()
		receiver, ok := now.Driver.(forwarder.CredentialReceiver)
		if len(r.Credential) == 0 || !ok {
			continue
		}
		run := forwarder.Run{Dir: s.root(), Env: s.env.childEnviron(), Log: io.Discard}
		if err := receiver.ReceiveCredential(now.Service, run, r.Credential); err != nil {
			return fmt.Errorf("service %q: %w", name, err)
		}
	}
	requestedAt := time.Now()
	s.logins.add(r.Names)
	for _, name := range r.Names {
		active.services[name].LogIn(r.Ask, requestedAt)
	}
	return nil
}

// Wait returns when each of the named services is settled; unknown ones count as settled. The error is ctx's or api.ErrEnding.
func (s *Supervisor) Wait(ctx context.Context, names []string) error {
	for {
		change := s.changes.Changed()
		if s.active.Load().isSettled(names) {
			return nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.endedCh:
			return api.ErrEnding
		}
	}
}

func (c *activeConfig) isSettled(names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool {
		svc := c.services[name]
		return svc != nil && !svc.Snapshot().EffectiveState().IsSettled()
	})
}

// Yield shuts down at once, without linger, if the project has no leases and listens on one of the addresses. It reports whether it did.
func (s *Supervisor) Yield(ctx context.Context, addresses []string) (bool, error) {
	if !s.active.Load().holdsAddress(addresses) {
		return false, nil
	}
	return s.requestShutdown(ctx, shutdownUnused), nil
}

// holdsAddress reports whether a service listens on one of the addresses.
func (c *activeConfig) holdsAddress(addresses []string) bool {
	for _, svc := range c.services {
		now := svc.Snapshot()
		for _, addr := range now.Service.ListenAddresses() {
			if now.IsPortHeld() && slices.Contains(addresses, addr.String()) {
				return true
			}
		}
		if status := bridgeStatus(now.Port()); status != nil && slices.Contains(addresses, status.Address) {
			return true
		}
	}
	return false
}

// End closes the ports, whatever the leases, and returns when they are free. The error is api.ErrEnding if another supervisor may have taken over
// meanwhile, and has the ports.
func (s *Supervisor) End(ctx context.Context) error {
	if !s.requestShutdown(ctx, shutdownRequested) {
		return errors.New("the supervisor could not close its ports; its log says why")
	}
	if s.hasSuccessor() {
		return api.ErrEnding
	}
	return nil
}
