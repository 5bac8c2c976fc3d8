package client

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/lockstate"
)

// leaveTimeout bounds the wait for a supervisor to acknowledge that a lease was released.
const leaveTimeout = 200 * time.Millisecond

// Leave releases a lease. If that cannot be written to the state file, the running supervisor records it instead, and bySocket is
// true. If none runs, the error is why the file could not be written.
func (p *Project) Leave(ctx context.Context, lease lockstate.Lease) (bySocket bool, err error) {
	lockCtx, cancel := withHalfOfTimeLeft(ctx) // then the supervisor is asked although another process holds the lock
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
	if err != nil || client == nil {
		return false, cmp.Or(err, cause)
	}
	released := WireLease(lease)
	return true, client.Leave(ctx, api.LeaveRequest{Lease: &released})
}

// notifyRelease tells the supervisor that a lease was released. wasHeld says that the state file had the lease. One that it did not have may
// have been sent to the supervisor's socket: then the release counts only if the supervisor acknowledges it. Every socket at which it may
// listen is tried, because its record may have been lost with the state.
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
