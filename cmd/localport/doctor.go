package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/doctor"
	"github.com/localport-sh/localport/cmd/localport/internal/layout"
	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/cmd/localport/internal/prompt"
	"github.com/localport-sh/localport/cmd/localport/internal/version"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/environ"
)

type doctorCmd struct {
	Fix       bool `env:"-" help:"Remove what no process holds: dead leases, state of projects that do not exist any more, sockets that nobody listens on."`
	Report    bool `xor:"format" help:"Print a text for a bug report, without names of hosts, clusters, users and projects."`
	WithNames bool `help:"With --report: keep the names."`
	JSON      bool `xor:"format" help:"Print JSON."`
}

// Help is the text below the usage.
func (doctorCmd) Help() string {
	return `Checks the shell's hook, programs, the project's hosts and clusters, ports, limits, and what earlier processes have left. Each check has an id and takes at most 3 seconds. Outside of a project, the checks of the project are skipped. A fix is a command for your shell, or says what to do.

Example: localport doctor

JSON: {"checks": [{"id", "status": "ok", "skip", "warn" or "fail", "text", "fix"}], "fixed": [lines]}

Exit codes: 0 if no check fails, also with warnings; 1 if one fails.

Checks: ` + strings.Join(doctor.IDs(), ", ") + "."
}

// errUnhealthy ends a run in which a check has failed.
var errUnhealthy = output.WithExitCode(output.ErrReported, output.ExitFailed)

// Run runs the checks, after the repair if that is asked for.
func (c doctorCmd) Run(ctx context.Context, a *app) error {
	fixed := []string{}
	var fixErr error
	if c.Fix {
		fixErr = doctor.Repair(ctx, func(text string) { fixed = append(fixed, text) })
	}
	subject, err := a.newSubject(ctx)
	if err != nil {
		return err
	}
	findings := doctor.Run(ctx, subject)
	if err := c.print(a, subject, findings, fixed); err != nil {
		return err
	}
	if fixErr != nil {
		return fixErr
	}
	if doctor.Worst(findings) == doctor.Fail {
		return errUnhealthy
	}
	return nil
}

func (c doctorCmd) print(a *app, subject *doctor.Subject, findings []doctor.Finding, fixed []string) error {
	switch {
	case c.JSON:
		for i := range findings {
			findings[i].Text, findings[i].Fix = output.JSONText(findings[i].Text), output.JSONText(findings[i].Fix)
		}
		return output.JSON(a.out, struct {
			Checks []doctor.Finding `json:"checks"`
			Fixed  []string         `json:"fixed"`
		}{findings, fixed})
	case c.Report:
		for _, line := range fixed {
			fmt.Fprintln(a.err, "localport:", output.EscapeLine(line))
		}
		doctor.WriteReport(a.out, subject, findings, c.WithNames)
		return nil
	}
	columns, _ := a.out.Size()
	for _, line := range fixed {
		printLines(a.out, layout.WrapText("fixed "+output.JoinLines(line), columns))
	}
	for _, f := range findings {
		printFinding(a, columns, f)
	}
	return nil
}

// idWidth is the width of the column of ids.
const idWidth = 14

// printFinding prints a finding, with its fix on lines of their own, which are not broken: they can be copied.
func printFinding(a *app, columns int, f doctor.Finding) {
	prefix := fmt.Sprintf("%-5s%-*s", f.Status, idWidth, f.ID)
	width := 0
	if columns > 0 {
		width = max(columns-len(prefix), idWidth)
	}
	for _, line := range layout.WrapText(output.JoinLines(f.Text), width) {
		fmt.Fprintln(a.out, strings.TrimRight(prefix+line, " "))
		prefix = strings.Repeat(" ", len(prefix))
	}
	if f.Fix != "" {
		fmt.Fprintln(a.out, "     fix: "+output.JoinLines(f.Fix))
	}
}

// newSubject collects what the checks look at. Without a project, only what belongs to none is checked.
func (a *app) newSubject(ctx context.Context) (*doctor.Subject, error) {
	exe, err := prompt.InvokedPath()
	if err != nil {
		return nil, err
	}
	subject := &doctor.Subject{Env: environ.Undo(environ.Parse(os.Environ())), Exe: exe, Version: version.Own()}
	p, err := a.findProject()
	if _, isNotFound := errors.AsType[*project.NotFoundError](err); isNotFound || errors.Is(err, project.ErrDirectoryDeleted) {
		return subject, nil
	}
	if err != nil {
		return nil, err
	}
	subject.Project = p.Project
	verdict, files, err := p.AskTrust()
	subject.Verdict, subject.ConfigErr = verdict, err
	if err == nil {
		subject.Config, subject.ConfigErr = p.parseConfig(files)
	}
	findCtx, cancel := context.WithTimeout(ctx, client.PromptTimeout())
	defer cancel()
	running, status, err := p.FindSupervisor(findCtx)
	if running != nil {
		subject.Running = &status
	}
	subject.StatusErr = err
	return subject, nil
}
