package client

import (
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/lockstate"
)

// WireLease is a stored lease as the control API has it.
func WireLease(l lockstate.Lease) api.Lease {
	return api.Lease{
		Kind: string(l.Kind), PID: l.PID, StartTime: l.Start, Dir: l.Dir, Since: l.Since,
		PIDNamespace: l.PIDNamespace, NetNamespace: l.NetNamespace, Boot: l.Boot,
	}
}

// WireLeases are stored leases as the control API has them.
func WireLeases(stored []lockstate.Lease) []api.Lease {
	leases := make([]api.Lease, 0, len(stored))
	for _, l := range stored {
		leases = append(leases, WireLease(l))
	}
	return leases
}
