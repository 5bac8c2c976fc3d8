package main

import (
	"errors"
	"fmt"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/probe/builtin"
	"github.com/localport-sh/localport/project"
)

type configCmd struct {
	Validate validateCmd `cmd:"" help:"Check the config; the project need not be allowed."`
}

type validateCmd struct{}

// Run prints every error of the config, or that there is none; and those of the user's own.
func (validateCmd) Run(a *app) error {
	p, err := a.findProject()
	if err != nil {
		return err
	}
	_, files, err := p.AskTrust() // for a worktree: with the .env that it would run with
	if err != nil {
		return err
	}
	parsed, err := p.parseConfig(files)
	if err != nil {
		return err
	}
	for _, warning := range parsed.Warnings {
		fmt.Fprintln(a.err, "warning:", output.Diagnostic(warning))
	}
	if err := checkHealthChecks(parsed); err != nil {
		return output.WithExitCode(err, output.ExitInvalid)
	}
	_, err = fmt.Fprintf(a.out, "%s: valid, %d %s\n", output.EscapeLine(p.Config), len(parsed.Services), plural("service", len(parsed.Services)))
	if err != nil {
		return err
	}
	if _, err := client.ReadUser(); err != nil {
		return output.WithExitCode(err, output.ExitInvalid)
	}
	return nil
}

// checkHealthChecks reports the health checks that cannot be made of their keys, or of the files that these name.
func checkHealthChecks(parsed *project.Project) error {
	var wrong []error
	for _, svc := range parsed.Services {
		if _, err := builtin.NewCheck(svc.HealthCheck); err != nil {
			wrong = append(wrong, fmt.Errorf("service %q: health_check: %w", svc.Name, err))
		}
	}
	return errors.Join(wrong...)
}
