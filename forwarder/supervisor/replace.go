package supervisor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/handoff"
	"github.com/localport-sh/localport/lockstate"
)

// Replace hands the project over to a new supervisor: leases, ports and connections that wait in the kernel's queues. This one
// drains its own connections. After an error it continues unchanged. If services have a login, whether the successor needs another one is
// found out first, which takes seconds: unless the user waits for it, that is done in the background and the error is errUpgradesLater.
func (s *Supervisor) Replace(ctx context.Context, r api.ReplaceRequest) error {
	if r.IsRequested || len(s.loggedInServices()) == 0 {
		return s.replace(ctx, r)
	}
	if !s.isUpgrading.Swap(true) {
		s.tasks.Go(func() {
			defer s.isUpgrading.Store(false)
			_ = s.replace(context.WithoutCancel(ctx), r) // which has logged the error
		})
	}
	return errUpgradesLater
}

// errUpgradesLater says that a replacement goes on in the background.
var errUpgradesLater = errors.New("services are logged in: whether the upgrade needs another login is being checked")

func (s *Supervisor) replace(ctx context.Context, r api.ReplaceRequest) error {
	env := s.readShellEnvironment(r.Environment)
	if err := s.beginOperation(ctx); err != nil {
		return err
	}
	defer s.endOperation()
	if env != nil { // only the successor's: tunnels that open here meanwhile keep the present one
		s.replacementShell.Store(&env.variables)
	}
	s.log.Info("starting another supervisor to replace this one", "exe", r.Exe, "version", r.Version)
	s.updateSuccessor() // with this environment and the logins
	successorEndedCh, err := s.keeper.startSuccessor(ctx, r.Exe)
	if err != nil {
		if env != nil {
			s.replacementShell.Store(nil)
			s.updateSuccessor()
		}
		if _, isLoginLoss := errors.AsType[*api.LoginLossError](err); !isLoginLoss {
			err = fmt.Errorf("start %s: %w", r.Exe, err)
		}
		s.recordFailedReplacement(ctx, r, err)
		return err
	}
	s.leaveTo(successorEndedCh)
	return nil
}

// leaveTo leaves the project to a supervisor that has the listeners and the election lock too, and starts to drain this one's connections.
// successorEndedCh is closed when that one ends. It is called within an operation.
func (s *Supervisor) leaveTo(successorEndedCh <-chan struct{}) {
	s.startDraining(successorEndedCh)
	s.keeper.endKeeper() // unless it serves the successor
	s.socket.closeListener()
	_ = s.election.Handover()
	close(s.endedCh)
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

// hasSuccessor reports whether this supervisor has left its ports to another one, or to the keeper, which starts another, or was ended by a signal
// without a keeper.
func (s *Supervisor) hasSuccessor() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.successorEndedCh != nil || s.isTerminated.Load()
}

// recordFailedReplacement records this supervisor again, and that the other version failed to replace it and is not to try again soon. If the
// keeper ended, the failure was not that version's.
func (s *Supervisor) recordFailedReplacement(ctx context.Context, r api.ReplaceRequest, cause error) {
	s.log.Error("the replacement failed; this supervisor continues", "version", r.Version, "error", cause)
	loss, refusedAt := s.findLoginLoss(cause), time.Now().UTC()
	if loss != nil {
		refusedAt = time.Time{} // see reconsiderReplacement
	}
	s.saveState(ctx, func(state *lockstate.State) {
		s.recordSelf(state)
		if !errors.Is(cause, handoff.ErrKeeperEnded) {
			state.Supervisor.Refused, state.Supervisor.RefusedAt = r.Version, refusedAt
		}
	}, true)
	s.loginLoss.Store(loss)
}

// drainConnections waits until every connection has ended, the successor has ended, or ctx ends. Meanwhile it records what is left, until
// when it may stay; zero: until the successor ends.
func (s *Supervisor) drainConnections(ctx context.Context, successorEndedCh <-chan struct{}, until time.Time) {
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
		s.recordDraining(ctx, lockstate.Draining{Process: s.self, Connections: s.active.Load().openConnections(), Until: until})
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

// abortTakeover gives up taking over from a predecessor, which continues unchanged if it is alive, or from a keeper.
func (s *Supervisor) abortTakeover() {
	s.keeper.disconnect()
	s.active.Load().stopAll()
	s.socket.closeListener()
	_ = s.election.Handover()
}
