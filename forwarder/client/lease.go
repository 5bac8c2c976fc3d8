package client

import (
	"github.com/localport-sh/localport/forwarder/control"
	"github.com/localport-sh/localport/lockstate"
)

// Lease is a stored lease as the control API has it.
func Lease(l lockstate.Lease) control.Lease {
	return control.Lease{Kind: string(l.Kind), PID: l.PID, Start: l.Start, Dir: l.Dir, Since: l.Since}
}

// Leases are stored leases as the control API has them.
func Leases(stored []lockstate.Lease) []control.Lease {
	leases := make([]control.Lease, 0, len(stored))
	for _, l := range stored {
		leases = append(leases, Lease(l))
	}
	return leases
}
