package main

import "github.com/localport-sh/localport/forwarder/metrics"

type metricsCmd struct{}

// Run prints the project's metrics, also if it is stopped.
func (metricsCmd) Run(a *app) error {
	p, ctx, cancel, err := a.openProject()
	if err != nil {
		return err
	}
	defer cancel()
	status, err := p.queryStatus(ctx)
	if err != nil {
		return err
	}
	return metrics.Write(a.out.Data(), status)
}
