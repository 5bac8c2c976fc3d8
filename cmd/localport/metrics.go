package main

import (
	"context"

	"github.com/localport-sh/localport/forwarder/metrics"
)

type metricsCmd struct{}

// Run prints the project's metrics, also if it is stopped.
func (metricsCmd) Run(ctx context.Context, a *app, p commandProject) error {
	status, err := p.queryStatus(ctx)
	if err != nil {
		return err
	}
	return metrics.Write(a.out.Data(), status)
}
