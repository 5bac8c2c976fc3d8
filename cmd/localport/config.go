package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/probe/builtin"
	"github.com/localport-sh/localport/project"
)

type configCmd struct {
	Validate validateCmd `cmd:"" help:"Check the config; the project need not be allowed."`
}

type validateCmd struct{}

// Run reports every error of the project's config or, if it has none, every error of the user's config.
func (validateCmd) Run(a *app, p commandProject) error {
	_, files, err := p.AskTrust() // which adds the .env that a git worktree runs with
	if err != nil {
		return err
	}
	parsed, err := p.parseConfig(files)
	if err != nil {
		return err
	}
	for _, warning := range slices.Concat(parsed.Warnings, parsed.Advice) {
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

// checkHealthChecks returns an error for each health check whose keys, or the files that they name, are invalid.
func checkHealthChecks(parsed *project.Project) error {
	var errs []error
	for _, svc := range parsed.Services {
		if _, err := builtin.NewCheck(svc.HealthCheck); err != nil {
			errs = append(errs, fmt.Errorf("service %q: health_check: %w", svc.Name, err))
		}
	}
	return errors.Join(errs...)
}
