package client

import (
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/lockstate"
)

// Lease is a stored lease as the control API has it.
func Lease(l lockstate.Lease) api.Lease {
	return api.Lease{Kind: string(l.Kind), PID: l.PID, StartTime: l.Start, Dir: l.Dir, Since: l.Since}
}

// Leases are stored leases as the control API has them.
func Leases(stored []lockstate.Lease) []api.Lease {
	leases := make([]api.Lease, 0, len(stored))
	for _, l := range stored {
		leases = append(leases, Lease(l))
	}
	return leases
}
