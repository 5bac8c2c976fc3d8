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
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/eventlog"
)

type logsCmd struct {
	Services []string `arg:"" optional:"" name:"service" help:"Services, or \"supervisor\"; if none is given, all services."`
	Follow   bool     `short:"f" help:"Follow new lines."`
	Lines    int      `short:"n" default:"-1" placeholder:"N" help:"Print only the last N matching lines."`
	logFilter
	outputFormat
	List bool `help:"List the names of the logs."`
	Path bool `help:"Print the paths of the log files."`
}

// supervisorLog is the name under which the supervisor's own log is asked for.
const supervisorLog = "supervisor"

// Run prints the logs of services, merged by time where there are several.
func (c logsCmd) Run(a *app) error {
	if c.Follow && !c.Until.IsZero() {
		return output.Usage(errors.New("--until and --follow exclude each other"))
	}
	pass, err := c.filter()
	if err != nil {
		return err
	}
	p, err := a.here()
	if err != nil {
		return err
	}
	names, err := c.names(p)
	if err != nil {
		return err
	}
	if c.Path || c.List {
		return c.list(a, p, names)
	}
	r := &reading{last: c.Lines, pass: pass, print: c.printer(a.out, len(names) > 1)}
	for _, name := range names {
		r.logs = append(r.logs, eventlog.NewLogReader(name, p.Dir.Log(name)))
	}
	defer r.close()
	return read(a.out, c.Follow, p.Dir.LogDir(), r.look)
}

func (c logsCmd) list(a *app, p here, names []string) error {
	for _, name := range names {
		if c.Path {
			name = p.Dir.Log(name)
		}
		if _, err := fmt.Fprintln(a.out, output.Line(name)); err != nil {
			return err
		}
	}
	return nil
}

// names are the logs asked for: those named, or every one that a service has or will have.
func (c logsCmd) names(p here) ([]string, error) {
	found, err := eventlog.ListLogs(p.Dir.LogDir())
	if err != nil {
		return nil, err
	}
	if len(c.Services) > 0 {
		return c.Services, p.known(c.Services, append(found, supervisorLog))
	}
	if c.List {
		return found, nil
	}
	if c.Follow {
		found = append(found, p.declared()...)
		slices.Sort(found)
	}
	return slices.DeleteFunc(slices.Compact(found), func(n string) bool { return n == supervisorLog }), nil
}

// known reports as an error the first name that is none of those given and no service of the project.
func (p here) known(names, others []string) error {
	var declared []string
	for _, name := range names {
		if slices.Contains(others, name) {
			continue
		}
		if declared == nil {
			declared = p.declared()
		}
		if !slices.Contains(declared, name) {
			return unknown("service", name, append(declared, others...))
		}
	}
	return nil
}

// declared are the names of the project's services, as far as the project can be asked or read.
func (p here) declared() []string {
	ctx, cancel := context.WithTimeout(context.Background(), client.Patience())
	defer cancel()
	status, err := p.status(ctx)
	if err != nil {
		return nil // what was logged can be read all the same
	}
	names := make([]string, 0, len(status.Services))
	for _, svc := range status.Services {
		names = append(names, svc.Name)
	}
	return names
}

// reading is some logs that are read together.
type reading struct {
	logs    []*eventlog.LogReader
	last    int // how many of the first look's lines are printed; -1: all
	pass    func(eventlog.Line) bool
	print   func([]entryLine) error
	started bool
}

// entryLine is a line, with the log that it stands in.
type entryLine struct {
	log string
	eventlog.Line
}

// look prints what was added since the last look.
func (r *reading) look() error {
	var lines []entryLine
	for _, log := range r.logs {
		more, err := log.Read()
		if err != nil {
			return err
		}
		for _, line := range more {
			if r.pass(line) {
				lines = append(lines, entryLine{log.Name, line})
			}
		}
	}
	slices.SortStableFunc(lines, func(a, b entryLine) int { return a.Time.Compare(b.Time) })
	if !r.started && r.last >= 0 && len(lines) > r.last {
		lines = lines[len(lines)-r.last:]
	}
	r.started = true
	return r.print(lines)
}

func (r *reading) close() {
	for _, log := range r.logs {
		log.Close()
	}
}

// read looks once, or whenever something changes in dir until the user has had enough or nobody reads any more.
func read(out *output.Writer, follow bool, dir string, look func() error) error {
	signal.Ignore(syscall.SIGPIPE) // the write says so, too
	err := func() error {
		if !follow {
			return look()
		}
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return eventlog.FollowDir(ctx, dir, func() error {
			if unread(out.File()) {
				return syscall.EPIPE
			}
			return look()
		})
	}()
	if errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return err
}
