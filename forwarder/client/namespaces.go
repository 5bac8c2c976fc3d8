package client

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project/trust"
)

// OtherNetworkError says that a project's supervisor runs in another network namespace: the services' ports on loopback addresses cannot be
// reached from here.
type OtherNetworkError struct {
	// IsMovable is set if "daemon restart" from here moves the supervisor to this network namespace. It is not for a process in a container
	// whose supervisor is outside.
	IsMovable bool
}

func (e *OtherNetworkError) Error() string {
	return "the supervisor runs in another network namespace: its ports cannot be reached from here"
}

// CheckNetwork returns a *OtherNetworkError if the project's supervisor, which is running, is in another network namespace.
func (p *Project) CheckNetwork() error { return checkNetwork(p.Dir.ReadOrZero().Supervisor) }

func checkNetwork(recorded *lockstate.Supervisor) error {
	if recorded == nil || !recorded.IsOnOtherNetwork() {
		return nil
	}
	return &OtherNetworkError{IsMovable: isMovable(recorded)}
}

// isMovable reports whether this process may start a supervisor that takes over from a running one. A process outside of a PID namespace may
// do so for a supervisor inside of it, which ends with the namespace; other processes only because of the network namespace.
func isMovable(recorded *lockstate.Supervisor) bool {
	if recorded.IsForeign() {
		_, isBelow := recorded.VisibleProcess()
		return isBelow
	}
	return recorded.IsOnOtherNetwork() && len(recorded.ForeignNamespaces()) == 0
}

// CheckControl returns an *api.ForeignError if the project's supervisor runs in other user, mount or PID namespaces than this process.
func (p *Project) CheckControl(ctx context.Context) error {
	recorded := p.Dir.ReadOrZero().Supervisor
	if recorded == nil {
		return nil
	}
	kinds := recorded.ForeignNamespaces()
	if len(kinds) == 0 {
		return nil
	}
	elected, err := p.isElectionHeld(ctx)
	if err != nil || !elected {
		return err
	}
	process, isVisible := recorded.VisibleProcess()
	foreign := &api.ForeignError{Kinds: kinds, IsBelow: isVisible && recorded.IsForeign(), Root: p.Root}
	if foreign.IsBelow || isVisible && !recorded.IsInUserNamespaceAbove() {
		foreign.PID = process.PID
	}
	return foreign
}

// RequireControl is CheckControl, but moves a supervisor of a PID namespace below this one to this one, if that is possible. A command that
// changes what the supervisor does, or the state, calls it first.
func (p *Project) RequireControl(ctx context.Context) error {
	err := p.CheckControl(ctx)
	if foreign, ok := errors.AsType[*api.ForeignError](err); !ok || !foreign.IsBelow {
		return err
	}
	if verdict, _, err := p.AskTrust(); err != nil || verdict != trust.Allowed {
		return p.CheckControl(ctx)
	}
	if _, err := p.Join(ctx, JoinOptions{Allowed: true, AnyNetwork: true}); err != nil {
		return err
	}
	return p.CheckControl(ctx)
}

// mayTakeOver reports whether the joiner should start a supervisor here, to which the running one, in a PID namespace below this one or in
// another network namespace, hands its ports over. The running one must answer, so that it also finds its successor, and must have no login that
// would be lost.
func (j *joiner) mayTakeOver(ctx context.Context) bool {
	client, status, err := j.askStatus(ctx, j.startedAt)
	return err == nil && client != nil && status.Supervisor != nil && len(status.Supervisor.LoggedIn) == 0
}

// checkNamespaces is called under the lock if a supervisor is running. It returns errMovable once if it should be moved, ends its election if
// that was found to be possible, or says why it cannot be used.
func (j *joiner) checkNamespaces(tx *lockstate.Tx) (isElectionFree bool, err error) {
	recorded := tx.Supervisor
	if recorded == nil {
		return false, nil
	}
	j.isForeign = recorded.IsForeign()
	networkErr := checkNetwork(recorded)
	if mayMove := j.Allowed && (networkErr == nil || j.AnyNetwork) && isMovable(recorded); mayMove && !j.hasAskedToMove {
		return false, errMovable
	} else if mayMove && j.takesOver {
		return true, tx.DropElection()
	}
	if networkErr != nil && !j.AnyNetwork {
		return false, &leaseRefusal{networkErr}
	}
	return false, nil
}

// errMovable says that a supervisor runs in a namespace from which this process may take over.
var errMovable = errors.New("the supervisor runs in another namespace")

// handOverWait is how long a joiner waits for the previous supervisor, in another namespace, to hand its ports over: that one checks its
// election every second. handOverPoll is how often the joiner asks.
const (
	handOverWait = 5 * time.Second
	handOverPoll = 50 * time.Millisecond
)

// awaitsHandOver reports whether the supervisor that this joiner started has yet to get ports from the previous one, and there is time to wait.
func (j *joiner) awaitsHandOver(ctx context.Context, view api.ProjectView) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < 4*handOverPoll {
		return false
	}
	return j.takesOver && j.hasSpawned && time.Since(j.spawnedAt) < handOverWait && slices.ContainsFunc(view.Services, func(svc api.ServiceView) bool {
		return !svc.Held && svc.State == forwarder.Failed
	})
}
