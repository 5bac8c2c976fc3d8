package main

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/eventlog"
)

type eventsCmd struct {
	Services []string `arg:"" optional:"" name:"service" help:"Services; if none is given, all services and the project itself."`
	Follow   bool     `short:"f" help:"Follow new events."`
	Lines    int      `short:"n" default:"-1" placeholder:"N" help:"Print only the last N events."`
	Since    timeFlag `placeholder:"WHEN" help:"Start time: 10m or 7d (ago), 15:04, 2026-01-31, or an RFC 3339 time."`
	outputFormat
}

// Run prints what happened in the project, whether it runs or not.
func (c eventsCmd) Run(a *app) error {
	p, err := a.findProject()
	if err != nil {
		return err
	}
	logged, err := eventlog.ListLogs(p.Dir.LogDir())
	if err != nil {
		return err
	}
	if err := p.checkNames(c.Services, logged); err != nil {
		return err
	}
	events := eventlog.NewEventReader(p.Dir.LogDir())
	defer events.Close()
	last := c.Lines
	return readLogs(a.out, c.Follow, p.Dir.LogDir(), func() error {
		found, err := events.Read(c.Since.Time)
		if err != nil {
			return err
		}
		found = c.selectEvents(found)
		if last >= 0 && len(found) > last {
			found = found[len(found)-last:]
		}
		last = -1 // of what happened before; what comes is printed as it comes
		return c.print(a.out, found)
	})
}

// selectEvents leaves the events of the services asked for.
func (c eventsCmd) selectEvents(events []eventlog.Event) []eventlog.Event {
	if len(c.Services) == 0 {
		return events
	}
	return slices.DeleteFunc(events, func(e eventlog.Event) bool { return !slices.Contains(c.Services, e.Service) })
}

func (c eventsCmd) print(w io.Writer, events []eventlog.Event) error {
	b := bufio.NewWriter(w)
	for _, event := range events {
		if c.json() {
			if err := output.JSONLine(b, event); err != nil {
				return err
			}
		} else {
			fmt.Fprintln(b, formatEvent(event))
		}
	}
	return b.Flush()
}

// formatEvent is an event for people: when, of which service, what, and why.
func formatEvent(e eventlog.Event) string {
	service := e.Service
	if service == "" {
		service = "-"
	}
	said := []string{e.Time.Local().Format(time.DateTime) + "  " + service + "  " + changeText(e)}
	for _, more := range []string{e.Reason, e.Hint} {
		if more != "" {
			said = append(said, output.JoinLines(more))
		}
	}
	return output.EscapeLine(strings.Join(said, ": "))
}

func changeText(e eventlog.Event) string {
	what := string(e.Kind)
	switch {
	case e.Kind == eventlog.StateChanged && e.From != "":
		return e.From + " → " + e.To
	case e.Kind == eventlog.StateChanged:
		return e.To
	case e.To != "" && e.To != what:
		return what + " (" + e.To + ")"
	}
	return what
}
