package place

import (
	"context"
	"time"

	"github.com/localport-sh/localport/forwarder/control"
	"github.com/localport-sh/localport/lockstate"
)

// leaveNotice is how long a supervisor may take to hear of a lease that was released.
const leaveNotice = 200 * time.Millisecond

// Leave releases a lease. Where that cannot be written to the state file, a supervisor that answers takes note of it; the
// error says why it could not be written, and that nobody did.
func (p *Place) Leave(ctx context.Context, lease lockstate.Lease) error {
	lockCtx, cancel := context.WithCancel(ctx)
	if deadline, ok := ctx.Deadline(); ok { // the supervisor is asked even where somebody else holds the lock
		cancel()
		lockCtx, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
	}
	defer cancel()
	state, cause := p.Dir.Update(lockCtx, func(tx *lockstate.Tx) error {
		tx.Release(lease.Kind, lease.Process)
		return nil
	})
	if cause == nil {
		if state.Supervisor != nil {
			ctx, cancel := context.WithTimeout(ctx, leaveNotice)
			defer cancel()
			_ = control.Client{Socket: state.Supervisor.Socket}.Leave(ctx, control.LeaveRequest{})
		}
		return nil
	}
	client, _, err := p.ask(ctx)
	if err != nil {
		return err
	}
	if client == nil {
		return cause
	}
	released := Lease(lease)
	return client.Leave(ctx, control.LeaveRequest{Lease: &released})
}
