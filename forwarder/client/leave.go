package client

import (
	"context"
	"errors"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/lockstate"
)

// leaveTimeout is how long a supervisor may take to hear of a lease that was released.
const leaveTimeout = 200 * time.Millisecond

// Leave releases a lease. Where that cannot be written to the state file, a supervisor that answers takes note of it by
// socket; the error says why it could not be written, and that nobody did.
func (p *Project) Leave(ctx context.Context, lease lockstate.Lease) (bySocket bool, err error) {
	lockCtx, cancel := context.WithCancel(ctx)
	if deadline, ok := ctx.Deadline(); ok { // the supervisor is asked even where somebody else holds the lock
		cancel()
		lockCtx, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
	}
	defer cancel()
	wasHeld := false
	_, cause := p.Dir.Update(lockCtx, func(tx *lockstate.Tx) error {
		before := len(tx.Leases)
		tx.RemoveLease(lease.Kind, lease.Process)
		wasHeld = len(tx.Leases) < before
		return nil
	})
	if cause == nil {
		return false, p.notifyRelease(ctx, lease, wasHeld)
	}
	client, _, err := p.askStatus(ctx)
	if err != nil {
		return false, err
	}
	if client == nil {
		return false, cause
	}
	released := WireLease(lease)
	return true, client.Leave(ctx, api.LeaveRequest{Lease: &released})
}

// notifyRelease tells the supervisor of a lease that was released; held says that the file had it. One that it did not have may
// have come by socket: then the release counts only if the supervisor takes note of it. The record of a supervisor may have been
// lost with the state: then it is asked where it would listen.
func (p *Project) notifyRelease(ctx context.Context, lease lockstate.Lease, wasHeld bool) error {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	released := WireLease(lease)
	r := api.LeaveRequest{Lease: &released}
	if wasHeld {
		r.At = time.Now()
	}
	for _, socket := range p.Dir.Sockets() {
		err := Client{Socket: socket}.Leave(ctx, r)
		switch {
		case err == nil:
			return nil
		case !wasHeld && errors.Is(err, ErrNoAnswer):
			return p.newNoAnswerError(leaveTimeout)
		}
	}
	return nil
}
