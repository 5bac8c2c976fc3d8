package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/eventlog"
)

type logsCmd struct {
	Services []string `arg:"" optional:"" name:"service" help:"Services, or \"supervisor\"; if none is given, all services."`
	Follow   bool     `short:"f" help:"Follow new lines."`
	Lines    int      `short:"n" aliases:"tail" default:"-1" placeholder:"N" help:"Print only the last N matching lines."`
	logFilter
	outputFormat
	List bool `help:"List the names of the logs."`
	Path bool `help:"Print the paths of the log files."`
}

// Help is the text below the usage.
func (logsCmd) Help() string {
	return `The lines are ordered by time. If a program prints more than 20,000 short lines a second, some are dropped, and a line in the log says how many.

  localport logs -f db
  localport logs --since 10m --grep refused

Exit codes: 0 printed, also if there are none; 1 a service is unknown, or the logs cannot be read; 2 wrong usage.`
}

// supervisorLog is the name of the supervisor's own log.
const supervisorLog = "supervisor"

// Run prints the logs of services, merged by time.
func (c logsCmd) Run(ctx context.Context, a *app) error {
	if c.Follow && !c.Until.IsZero() {
		return output.Usage(errors.New("--until and --follow exclude each other"))
	}
	matches, err := c.newMatcher()
	if err != nil {
		return err
	}
	p, err := a.findProject()
	if err != nil {
		return err
	}
	names, err := c.logNames(ctx, p)
	if err != nil {
		return err
	}
	if c.Path || c.List {
		return c.printList(a, p, names)
	}
	r := &logReader{maxFirst: c.Lines, matches: matches, print: c.newPrinter(a.out)}
	defer r.close()
	r.add(p, names)
	a.endsWithReader = c.Follow
	err = readLogs(a.out, c.Follow, p.Dir.LogDir(), func() error {
		if c.Follow && len(c.Services) == 0 { // a changed config may have new services
			found, err := eventlog.ListLogs(p.Dir.LogDir())
			if err != nil {
				return err
			}
			r.add(p, withoutSupervisor(found))
		}
		return r.printNew()
	})
	if err == nil && !c.Follow && r.printed == 0 && a.out.IsTerminal() {
		next := "localport events"
		if len(names) == 1 && names[0] != supervisorLog {
			next = "localport why " + names[0]
		}
		output.Info(a.err, "no lines; %q says what happened", next)
	}
	return err
}

func withoutSupervisor(names []string) []string {
	return slices.DeleteFunc(names, func(name string) bool { return name == supervisorLog })
}

func (c logsCmd) printList(a *app, p commandProject, names []string) error {
	for _, name := range names {
		if c.Path {
			name = p.Dir.LogPath(name)
		}
		if _, err := fmt.Fprintln(a.out, output.EscapeLine(name)); err != nil {
			return err
		}
	}
	return nil
}

// logNames returns the selected logs: those named, or those of all services; with --follow also those that do not exist yet.
func (c logsCmd) logNames(ctx context.Context, p commandProject) ([]string, error) {
	found, err := eventlog.ListLogs(p.Dir.LogDir())
	if err != nil {
		return nil, err
	}
	if len(c.Services) > 0 {
		return c.Services, p.checkNames(ctx, c.Services, append(found, supervisorLog))
	}
	if c.List {
		return found, nil
	}
	if c.Follow {
		found = append(found, p.declaredNames(ctx)...)
		slices.Sort(found)
	}
	return withoutSupervisor(slices.Compact(found)), nil
}

// checkNames returns an error for the first of names that is neither in alsoValid nor a service of the project.
func (p commandProject) checkNames(ctx context.Context, names, alsoValid []string) error {
	var declared []string
	for _, name := range names {
		if slices.Contains(alsoValid, name) {
			continue
		}
		if declared == nil {
			declared = p.declaredNames(ctx)
		}
		if !slices.Contains(declared, name) {
			return unknownNameError("service", name, append(declared, alsoValid...))
		}
	}
	return nil
}

// declaredNames returns the names of the project's services; none if the status is unavailable.
func (p commandProject) declaredNames(ctx context.Context) []string {
	status, err := p.queryStatus(ctx)
	if err != nil {
		return nil // the logs can be read anyway
	}
	names := make([]string, 0, len(status.Services))
	for _, svc := range status.Services {
		names = append(names, svc.Name)
	}
	return names
}

// logReader reads several logs together.
type logReader struct {
	logs     []*openLog
	maxFirst int // how many lines the first call of printNew prints; -1: all
	matches  func(namedLine) bool
	print    linePrinter
	started  bool
	printed  int // lines
}

// openLog is a log and those of its lines that have been read and not yet printed.
type openLog struct {
	*eventlog.LogReader
	lines []eventlog.Line
}

// namedLine is a line and the name of its log.
type namedLine struct {
	log string
	eventlog.Line
}

// add adds the logs with these names that it does not read yet.
func (r *logReader) add(p commandProject, names []string) {
	for _, name := range names {
		if !slices.ContainsFunc(r.logs, func(log *openLog) bool { return log.Name == name }) {
			r.logs = append(r.logs, &openLog{LogReader: eventlog.NewLogReader(name, p.Dir.LogPath(name))})
		}
	}
}

// maxReadRounds limits how often printNew reads all logs, if lines are written faster than they are read.
const maxReadRounds = 5

// printNew prints the lines that were added since its last call, in the order in which they were written. It reads all logs until there is nothing
// new in any: lines that are written later than that are later than all that it prints.
func (r *logReader) printNew() error {
	for range maxReadRounds {
		hasNew, err := r.readNew()
		if err != nil {
			return err
		}
		if !hasNew {
			break
		}
	}
	lines := r.merge()
	if !r.started && r.maxFirst >= 0 && len(lines) > r.maxFirst {
		lines = lines[len(lines)-r.maxFirst:]
	}
	r.started = true
	r.printed += len(lines)
	return r.print(lines, len(r.logs) > 1)
}

func (r *logReader) readNew() (hasNew bool, err error) {
	for _, log := range r.logs {
		more, err := log.Read()
		if err != nil {
			return false, err
		}
		log.lines = append(log.lines, more...)
		hasNew = hasNew || len(more) > 0
	}
	return hasNew, nil
}

// merge removes the lines that were read and returns those that match, by time. The lines of one log keep their order, whatever the clock did.
func (r *logReader) merge() []namedLine {
	var merged []namedLine
	for {
		var next *openLog
		for _, log := range r.logs {
			if len(log.lines) > 0 && (next == nil || log.lines[0].Time.Before(next.lines[0].Time)) {
				next = log
			}
		}
		if next == nil {
			return merged
		}
		line := namedLine{next.Name, next.lines[0]}
		next.lines = next.lines[1:]
		if r.matches(line) {
			merged = append(merged, line)
		}
	}
}

func (r *logReader) close() {
	for _, log := range r.logs {
		log.Close()
	}
}

// readLogs calls printNew once; with follow, after each change in dir until the user interrupts it or the reader of out is gone.
func readLogs(out *output.Writer, follow bool, dir string, printNew func() error) error {
	if !follow {
		return printNew()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer endInterruptedLine(ctx, out)
	return eventlog.FollowDir(ctx, dir, func() error {
		if hasReaderClosed(out.File()) {
			return syscall.EPIPE
		}
		return printNew()
	})
}
