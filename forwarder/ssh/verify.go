package ssh

import (
	"context"
	"errors"
	"maps"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
)

// verify logs in to a service's host. A reverse forward is verified without its port on the server, which the service itself may have.
func verify(ctx context.Context, svc project.Service, run forwarder.Run) forwarder.Verification {
	svc.Reverse = false
	svc.Connection.Settings = maps.Clone(svc.Connection.Settings)
	delete(svc.Connection.Settings, "reverse")
	result := forwarder.Verification{Summary: newTunnelSpec(svc).connection.host}
	if resolved, err := resolveDestination(ctx, newTunnelSpec(svc), run); err == nil {
		result.Summary = resolved.String()
	}
	d := newDriver(ctx)
	defer func() { _ = d.Close() }()
	tunnel, err := d.Open(ctx, svc, run)
	if err == nil {
		_ = tunnel.Close()
		return result
	}
	failure, isFailure := errors.AsType[*forwarder.Failure](err)
	if !isFailure {
		failure = &forwarder.Failure{Reason: err.Error()}
	}
	result.Failure = failure
	return result
}
