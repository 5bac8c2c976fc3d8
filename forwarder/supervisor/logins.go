package supervisor

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/lockstate"
)

// loginRecord has the names of the services for which a user has logged in. It is safe for concurrent use.
type loginRecord struct {
	mu    sync.Mutex
	names map[string]struct{}
}

func (r *loginRecord) add(names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.names == nil {
		r.names = make(map[string]struct{})
	}
	for _, name := range names {
		r.names[name] = struct{}{}
	}
}

func (r *loginRecord) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.names))
}

// loggedInServices returns the services that have a tunnel for which a user has logged in.
func (s *Supervisor) loggedInServices() []string {
	services := s.active.Load().services
	return slices.DeleteFunc(s.logins.all(), func(name string) bool {
		svc := services[name]
		return svc == nil || !hasTunnel(svc.Snapshot().State)
	})
}

func hasTunnel(state forwarder.State) bool {
	return state == forwarder.Healthy || state == forwarder.Unhealthy
}

// loginTrialTimeout bounds tryLogins. It is less than what a keeper allows for a start.
const loginTrialTimeout = 12 * time.Second

// loginTrial is a tunnel that was opened to see whether that needs another login.
type loginTrial struct {
	svc       *runningService
	tunnel    forwarder.Tunnel
	removeRun func()
	err       error // why the tunnel could not be opened, if for the lack of a login
}

// close closes the tunnel.
func (t *loginTrial) close() {
	if t.tunnel != nil {
		_ = t.tunnel.Close()
	}
	t.removeRun()
}

// tryLogins opens a tunnel for each service for which a user has logged in at the predecessor, before this supervisor takes over: a login
// that only the predecessor has, in an ssh process for example, is not given up. The caller closes the trials when the services have
// tunnels of their own, which share what these have opened. The error is an *api.LoginLossError.
func (s *Supervisor) tryLogins(ctx context.Context, active *activeConfig) ([]*loginTrial, error) {
	if !s.inherited.isPredecessorAlive {
		return nil, nil
	}
	s.logins.add(s.inherited.handoffState.LoggedIn)
	ctx, cancel := context.WithTimeout(ctx, loginTrialTimeout)
	defer cancel()
	var wg sync.WaitGroup
	var trials []*loginTrial
	for _, name := range s.inherited.handoffState.LoggedIn {
		if svc := active.services[name]; svc != nil {
			trial := &loginTrial{svc: svc, removeRun: func() {}}
			trials = append(trials, trial)
			wg.Go(func() { trial.err = s.tryLogin(ctx, trial) })
		}
	}
	wg.Wait()
	var names []string
	var cause error
	for _, trial := range trials {
		if trial.err != nil {
			names, cause = append(names, trial.svc.Snapshot().Service.Name), trial.err
		}
	}
	if cause == nil {
		return trials, nil
	}
	closeTrials(trials)
	return nil, &api.LoginLossError{Services: names, Reason: s.mask(cause.Error())}
}

func closeTrials(trials []*loginTrial) {
	for _, trial := range trials {
		trial.close()
	}
}

// tryLogin opens a trial's tunnel. A failure for which a login is no remedy is no error.
func (s *Supervisor) tryLogin(ctx context.Context, trial *loginTrial) error {
	run, removeRun, err := s.newRun(ctx, trial.svc.processLog)
	if err != nil {
		return err
	}
	trial.removeRun = removeRun
	now := trial.svc.Snapshot()
	tunnel, err := now.Driver.Open(ctx, now.Service, run)
	if err == nil {
		trial.tunnel = tunnel
		return nil
	}
	failure, isFailure := errors.AsType[*forwarder.Failure](err)
	if isFailure && failure.Class != forwarder.NeedsUser && ctx.Err() == nil {
		return nil // the predecessor's next tunnel would have the same problem
	}
	return err
}

// closeTrialsLater closes the trials when each service has its own tunnel, is not going to have one for now, or the supervisor ends.
func (s *Supervisor) closeTrialsLater(trials []*loginTrial) {
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	defer closeTrials(trials)
	for _, trial := range trials {
		for {
			changedCh := s.changes.Changed()
			if state := trial.svc.Snapshot().State; state != forwarder.Stopped && state != forwarder.Starting {
				break
			}
			select {
			case <-changedCh:
				continue
			case <-limit.C:
			case <-s.endedCh:
			}
			return
		}
	}
}

// findLoginLoss returns the login loss because of which a successor has not taken over; nil if that was not why. An older program as successor
// reports it only as a text.
func (s *Supervisor) findLoginLoss(err error) *api.LoginLossError {
	if loss, ok := errors.AsType[*api.LoginLossError](err); ok || !strings.Contains(err.Error(), api.LoginLossText) {
		return loss
	}
	return &api.LoginLossError{Services: s.loggedInServices(), Reason: err.Error()}
}

// reconsiderReplacement lets a version take over that was refused because it would have needed another login, when no service has a login
// to lose any more.
func (s *Supervisor) reconsiderReplacement(ctx context.Context) {
	if s.loginLoss.Load() == nil || len(s.loggedInServices()) > 0 {
		return
	}
	s.loginLoss.Store(nil)
	s.saveState(ctx, func(state *lockstate.State) {
		if state.Supervisor != nil && state.Supervisor.Process == s.self {
			state.Supervisor.Refused = ""
		}
	}, true)
}
