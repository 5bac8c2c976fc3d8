package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/localport-sh/localport/cmd/localport/internal/layout"
	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/cmd/localport/internal/version"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
)

// outputFormat are the flags of a command that can print its data as JSON.
type outputFormat struct {
	Output string `short:"o" enum:"table,json,text" default:"table" help:"Output format: ${enum}."`
	JSON   bool   `help:"Same as --output=json."`
}

func (o outputFormat) isJSON() bool { return o.JSON || o.Output == "json" }

type statusCmd struct {
	Services []string `arg:"" optional:"" name:"service" help:"Show everything about these services; if none is given, a table of all."`
	outputFormat
	Watch    bool            `short:"w" help:"Keep showing the table until Ctrl-C; if the output is not a terminal, print each change."`
	Interval refreshInterval `short:"i" placeholder:"TIME" env:"-" help:"With --watch, which it implies: how often times are updated (default 1s). Changes are shown at once."`
	All      bool            `env:"-" help:"Show all of your projects that run, as ls does."`
	ExitCode bool            `env:"-" help:"Exit with 0 if every enabled service is healthy, idle or shared, else with 1."`
}

// Help is the text below the usage.
func (statusCmd) Help() string {
	return "A table that fits the terminal; in a pipe, one line per service with all columns.\n\n" +
		"Example: localport status --exit-code >/dev/null || localport restart\n\n" +
		"Exit codes: 0 shown; 1 the supervisor does not answer, or with --exit-code: a service is not healthy, idle or shared; " +
		"2 wrong usage; 3 the config is invalid."
}

// Run shows the project, also if it is stopped.
func (c statusCmd) Run(ctx context.Context, a *app) error {
	isWatch := c.Watch || c.Interval > 0
	switch {
	case c.All && (isWatch || c.ExitCode || len(c.Services) > 0):
		return output.Usage(errors.New("--all can be combined only with an output format"))
	case isWatch && c.ExitCode:
		return output.Usage(errors.New("--exit-code and --watch exclude each other"))
	case c.All:
		return lsCmd{outputFormat: c.outputFormat}.Run(ctx, a)
	}
	p, err := a.findProject()
	if err != nil {
		return err
	}
	if isWatch {
		return c.watch(a, p)
	}
	status, err := p.queryOrReadStatus(ctx)
	if err != nil {
		return err
	}
	if status.Services, err = c.selectFrom(status); err != nil {
		return err
	}
	p.addWarnings(ctx, &status)
	if err := c.print(a.out, p, status); err != nil {
		return err
	}
	if c.ExitCode && !areAllReady(status.Services, len(c.Services) > 0) {
		return output.ErrReported
	}
	return nil
}

// selectFrom returns the services that the command names, in the order of the config; all if it names none.
func (c statusCmd) selectFrom(status api.Status) ([]api.ServiceStatus, error) {
	if len(c.Services) == 0 {
		return status.Services, nil
	}
	names, err := selectServices(status.Services, c.Services, nil)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(status.Services), func(svc api.ServiceStatus) bool { return !slices.Contains(names, svc.Name) }), nil
}

// areAllReady reports whether clients can use all of the services. Those that are not enabled count only if they are named, or were started.
func areAllReady(services []api.ServiceStatus, areNamed bool) bool {
	return !slices.ContainsFunc(services, func(svc api.ServiceStatus) bool {
		isOff := !svc.Enabled && !areNamed && !svc.Held
		return !svc.IsReady() && !isOff
	})
}

// addWarnings adds what only this process can know.
func (p commandProject) addWarnings(ctx context.Context, status *api.Status) {
	status.Draining = p.Draining()
	if err := p.CheckNetwork(); err != nil && status.State == api.StateRunning {
		status.Warnings = append(status.Warnings, err.Error())
	}
	if status.Supervisor != nil && status.RecordedAt == nil {
		if text, _ := describeOtherEnvironment(ctx, client.Client{Socket: status.Supervisor.Socket}); text != "" {
			status.Warnings = append(status.Warnings, text)
		}
	}
}

func (c statusCmd) print(w *output.Writer, p commandProject, status api.Status) error {
	if c.isJSON() {
		status.Project, status.Config = output.JSONText(status.Project), output.JSONText(status.Config)
		return output.JSON(w, status)
	}
	if c.Output == "text" {
		for _, svc := range status.Services {
			fmt.Fprintln(w, formatLine(svc))
		}
		return nil
	}
	columns, _ := w.Size()
	if len(c.Services) > 0 {
		return w.PrintLines(p.detailLines(status, columns))
	}
	lines := statusLines(status, columns)
	if text := p.describeDeathOnce(status.Supervisor); text != "" {
		lines = append(lines, layout.Wrap(output.PlainLine(text), columns, messageIndent)...)
	}
	if exe, err := os.Executable(); err == nil && status.Supervisor != nil && status.RecordedAt == nil {
		if skew := describeSkew(*status.Supervisor, version.Own(), client.BuildTime(exe)); skew != "" {
			lines = append(lines, layout.Wrap(warningLine(skew), columns, messageIndent)...)
		}
	}
	return w.PrintLines(lines)
}

// formatLine formats a service as a line for scripts: name, state, address.
func formatLine(svc api.ServiceStatus) string {
	return fmt.Sprintf("%s %s %s", svc.Name, svc.State, svc.Address)
}
