package main

import (
	"context"

	"github.com/localport-sh/localport/forwarder/metrics"
)

type metricsCmd struct{}

// Help is the text below the usage.
func (metricsCmd) Help() string {
	return `It works for a stopped project too.

Example: localport metrics > /var/lib/node_exporter/localport.prom

Exit codes: 0 printed; 1 the supervisor does not answer, or the config cannot be read; 2 wrong usage; 3 the config of the stopped project is invalid.`
}

// Run prints the project's metrics, also if it is stopped.
func (metricsCmd) Run(ctx context.Context, a *app, p commandProject) error {
	status, err := p.queryStatus(ctx)
	if err != nil {
		return err
	}
	return metrics.Write(a.out.Data(), status)
}
