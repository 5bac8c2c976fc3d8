package client

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/lockstate"
)

// leaveTimeout is the shortest limit of the wait for a supervisor to acknowledge that a lease was released. The limit is a tenth of AnswerTimeout if
// that is longer.
const leaveTimeout = 200 * time.Millisecond

// Departure is the result of Leave.
type Departure struct {
	BySocket bool              // the state file could not be written: the running supervisor has recorded the release instead
	Left     api.LeaveResponse // what the supervisor says about open connections; empty if other leases keep them open
}

// Leave releases a lease. If that cannot be written to the state file, the running supervisor records it instead. If none runs, the error
// is why the file could not be written.
func (p *Project) Leave(ctx context.Context, lease lockstate.Lease) (Departure, error) {
	lease = lease.Here()
	lockCtx, cancel := withHalfOfTimeLeft(ctx) // then the supervisor is asked although another process holds the lock
	defer cancel()
	wasHeld, wasLast := false, false
	var draining []lockstate.Draining
	_, cause := p.Dir.Update(lockCtx, func(tx *lockstate.Tx) error {
		before := len(tx.Leases)
		tx.RemoveLease(lease.Kind, lease.Process)
		wasHeld = len(tx.Leases) < before
		wasLast = !slices.ContainsFunc(tx.Leases, lockstate.Lease.IsAlive)
		draining = tx.LiveDraining()
		return nil
	})
	if cause == nil {
		left, err := p.notifyRelease(ctx, lease, wasHeld)
		switch {
		case !wasLast: // the supervisor may not know the other leases yet
			left = api.LeaveResponse{}
		case left.Linger > 0:
			addDraining(&left, draining)
		}
		return Departure{Left: left}, err
	}
	client, _, err := p.askStatus(ctx, time.Now())
	if err != nil || client == nil {
		return Departure{}, cmp.Or(err, cause)
	}
	released := WireLease(lease)
	left, err := client.Leave(ctx, api.LeaveRequest{Lease: &released})
	return Departure{BySocket: true, Left: left}, err
}

// addDraining adds the connections of replaced supervisors, which end when their successor does.
func addDraining(left *api.LeaveResponse, draining []lockstate.Draining) {
	for _, d := range draining {
		if !d.Until.IsZero() {
			continue // it has no successor
		}
		for _, name := range slices.Sorted(maps.Keys(d.Connections)) {
			i := slices.IndexFunc(left.Services, func(svc api.OpenConnections) bool { return svc.Name == name })
			if i < 0 {
				i = len(left.Services)
				left.Services = append(left.Services, api.OpenConnections{Name: name})
			}
			left.Services[i].Open += d.Connections[name]
		}
	}
}

// notifyRelease tells the supervisor that a lease was released. wasHeld says that the state file had the lease. One that it did not have may
// have been sent to the supervisor's socket: then the release counts only if the supervisor acknowledges it. Every socket at which it may
// listen is tried, because its record may have been lost with the state.
func (p *Project) notifyRelease(ctx context.Context, lease lockstate.Lease, wasHeld bool) (api.LeaveResponse, error) {
	timeout := max(leaveTimeout, p.AnswerTimeout/10)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	released := WireLease(lease)
	r := api.LeaveRequest{Lease: &released}
	if wasHeld {
		r.At = time.Now()
	}
	for _, socket := range p.Dir.Sockets() {
		left, err := Client{Socket: socket}.Leave(ctx, r)
		switch {
		case err == nil:
			return left, nil
		case !wasHeld && errors.Is(err, ErrNoAnswer):
			return api.LeaveResponse{}, p.newNoAnswerError(timeout)
		}
	}
	return api.LeaveResponse{}, nil
}
