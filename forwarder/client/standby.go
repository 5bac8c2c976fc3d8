package client

import (
	"context"
	"errors"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project/trust"
)

// standbyRetry is how long a standby waits before it asks again.
const standbyRetry = time.Second

// MayEndWithNamespace reports whether the project's supervisor runs in another container or sandbox, and so ends with it while processes of this one
// still use its ports.
func (p *Project) MayEndWithNamespace() bool {
	recorded := p.Dir.ReadOrZero().Supervisor
	return recorded != nil && recorded.IsForeign() && !recorded.IsInInitialPIDNamespace()
}

// StartStandby starts a process of this program, with the arguments, that calls StandBy. It is no child of this process.
func (p *Project) StartStandby(ctx context.Context, args ...string) error {
	spawner := p.newSpawner(true)
	spawner.Args = append(args, "--config", p.Config)
	_, err := spawner.Spawn(ctx)
	return err
}

// StandBy waits until a supervisor that may end with its namespace has ended, and then starts one here, for the process of a lease. It returns
// when the supervisor is one that does not end so, when the user has stopped the project, or when ctx ends.
func (p *Project) StandBy(ctx context.Context, lease lockstate.Lease) error {
	for ctx.Err() == nil {
		supervisor, err := p.joinForStandby(ctx, lease)
		if _, isNotAllowed := errors.AsType[*NotAllowedError](err); errors.Is(err, ErrDown) || isNotAllowed || err == nil && !p.MayEndWithNamespace() {
			return err
		}
		if err == nil {
			err = supervisor.Watch(ctx, func(api.Status) bool { return true }) // until it ends
		}
		if _, hasEnded := errors.AsType[*UnreachableError](err); !hasEnded {
			wait.Sleep(ctx, standbyRetry)
		}
	}
	return nil
}

func (p *Project) joinForStandby(ctx context.Context, lease lockstate.Lease) (*JoinedProject, error) {
	ctx, cancel := context.WithTimeout(ctx, CommandTimeout())
	defer cancel()
	verdict, _, err := p.AskTrust()
	if err != nil {
		return nil, err
	}
	return p.Join(ctx, JoinOptions{Lease: lease, Allowed: verdict == trust.Allowed})
}
