package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/cmd/localport/internal/filediff"
	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/supervisor"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/trust"
)

// maxReviewLines is the number of lines of a comparison that are printed.
const maxReviewLines = 60

// review is a project's files, valid, before they are allowed.
type review struct {
	files   *project.Files
	masked  []project.MaskedFile
	secrets []string
	project *project.Project     // nil: a variable is set nowhere, which the files need
	missing []project.Diagnostic // what this machine lacks: files, programs, variables
	advice  []project.Diagnostic // what values of [env] may be intended to mean
	verdict trust.Verdict        // before
	last    trust.Copy           // what was allowed before
	hasLast bool
}

// reviewFiles checks files that are to be allowed. The error is a *project.InvalidError with all mistakes. That a variable is not set is none: the
// supervisor may be started where it is.
func (p commandProject) reviewFiles(files *project.Files, verdict trust.Verdict) (review, error) {
	r := review{files: files, verdict: verdict}
	parsed, err := p.parseConfig(files)
	switch invalid, isInvalid := errors.AsType[*project.InvalidError](err); {
	case err == nil:
		if err := checkHealthChecks(parsed); err != nil {
			return r, output.WithExitCode(err, output.ExitInvalid)
		}
		r.project, r.secrets, r.missing, r.advice = parsed, parsed.Secrets, p.findMissing(files), project.EnvAdvice(parsed.Env)
	case isInvalid && !slices.ContainsFunc(invalid.Diagnostics, func(d project.Diagnostic) bool { return !d.IsUnset }):
		r.secrets, r.missing = invalid.Secrets, p.findMissing(files)
	default:
		return r, err
	}
	r.masked = files.MaskedFiles(r.secrets)
	r.last, r.hasLast = p.Store.LastAllowed(files)
	return r, nil
}

// findMissing returns what "config validate" reports about valid files: what they name is missing here. It may be there when a service starts.
func (p commandProject) findMissing(files *project.Files) []project.Diagnostic {
	options := p.parseOptions()
	options.CheckPath = p.checkPath
	_, err := project.Parse(files, options)
	if invalid, ok := errors.AsType[*project.InvalidError](err); ok {
		return invalid.Diagnostics
	}
	return nil
}

// printReview prints what changed since the files were allowed last or, for the first time, where their services lead and what they run.
func (a *app) printReview(ctx context.Context, r review) {
	name := filepath.Base(r.files.Path)
	switch {
	case r.hasLast:
		a.printComparison(filediff.Compare(r.last.Files, r.masked))
	case r.verdict == trust.Allowed: // by an older version, which keeps no copy
	case r.verdict == trust.Changed:
		a.printSummary(ctx, r, name+" has changed; an older version of localport allowed it, and kept no copy to compare with:")
	default:
		a.printSummary(ctx, r, name+" is allowed for the first time:")
	}
	a.printWarnings(slices.Concat(r.missing, r.advice))
}

// printWarnings prints warnings about a config.
func (a *app) printWarnings(warnings []project.Diagnostic) {
	for _, d := range warnings {
		fmt.Fprintln(a.err, "warning:", output.Diagnostic(d))
	}
}

func (a *app) printSummary(ctx context.Context, r review, title string) {
	output.Info(a.err, "%s", title)
	for _, line := range summaryLines(ctx, r) {
		fmt.Fprintln(a.err, "  "+line)
	}
}

var lineStyles = map[filediff.LineKind]output.Style{
	filediff.Title: output.Heading, filediff.Section: output.Faint, filediff.Added: output.Success, filediff.Removed: output.Failure,
}

// printComparison prints the differences between two texts.
func (a *app) printComparison(lines []filediff.Line) {
	var styled []output.Line
	for _, line := range filediff.Limit(lines, maxReviewLines) {
		styled = append(styled, output.Line{{Style: lineStyles[line.Kind], Text: line.Text}})
	}
	_ = a.err.PrintLines(styled) // like every message: a failure could be reported nowhere else
	if slices.ContainsFunc(lines, filediff.Line.HidesSecret) {
		output.Info(a.err, "*** stands for a secret")
	}
}

// summaryLines says where the services of a config lead, and which programs they run: a line for each.
func summaryLines(ctx context.Context, r review) []string {
	if r.project == nil {
		services, _ := r.files.Names()
		return []string{"services: " + cmp.Or(strings.Join(services, ", "), "none")}
	}
	width := 0
	for _, svc := range r.project.Services {
		width = max(width, len(svc.Name))
	}
	var lines []string
	for _, svc := range r.project.Services {
		line := fmt.Sprintf("%-*s :%-5d  %s", width, svc.Name, svc.LocalPort, supervisor.Target(ctx, r.project.Root, svc))
		lines = append(lines, output.EscapeLine(project.Mask(line, r.project.Secrets)))
	}
	for _, svc := range r.project.Services {
		for _, argv := range programs(svc) {
			lines = append(lines, output.EscapeLine(fmt.Sprintf("%-*s runs    %s", width, svc.Name, project.Mask(argv, r.project.Secrets))))
		}
	}
	if n := len(r.project.Env); n > 0 {
		names := make([]string, n)
		for i, entry := range r.project.Env {
			names[i] = entry.Name
		}
		lines = append(lines, "sets "+strings.Join(names, ", "))
	}
	if len(lines) == 0 {
		return []string{"no services"}
	}
	return lines
}

// programs returns the command lines in the config of a service.
func programs(svc project.Service) []string {
	var lines []string
	for _, key := range []string{"command", "login"} {
		if argv := svc.Connection.Settings.TextList(key); len(argv) > 0 {
			lines = append(lines, strings.Join(argv, " "))
		}
	}
	for name, value := range svc.Connection.Settings.Table("options") {
		if strings.EqualFold(name, "ProxyCommand") || strings.EqualFold(name, "LocalCommand") || strings.EqualFold(name, "KnownHostsCommand") {
			lines = append(lines, value)
		}
	}
	slices.Sort(lines)
	return lines
}

// isAtTerminal reports whether a person can answer, and sees what is printed.
func (a *app) isAtTerminal() bool {
	columns, _ := a.err.Size()
	_, err := unix.IoctlGetWinsize(int(os.Stdin.Fd()), unix.TIOCGWINSZ)
	return err == nil && columns > 0
}
