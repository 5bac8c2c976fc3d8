package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

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

// Help is the text below the usage.
func (eventsCmd) Help() string {
	return `It works for a stopped project too.

  localport events -n 20
  localport events -f db

Exit codes: 0 printed, also if there are none; 1 a service is unknown, or the log cannot be read; 2 wrong usage.`
}

// Run prints what happened in the project, whether it runs or not.
func (c eventsCmd) Run(ctx context.Context, a *app, p commandProject) error {
	logged, err := eventlog.ListLogs(p.Dir.LogDir())
	if err != nil {
		return err
	}
	if err := p.checkNames(ctx, c.Services, logged); err != nil {
		return err
	}
	events := eventlog.NewEventReader(p.Dir.LogDir())
	defer events.Close()
	limit := c.Lines // of the events so far; new ones are all printed
	a.endsWithReader = c.Follow
	return readLogs(a.out, c.Follow, p.Dir.LogDir(), func() error {
		found, err := events.Read(c.Since.Time)
		if err != nil {
			return err
		}
		found = c.selectEvents(found)
		if limit >= 0 && len(found) > limit {
			found = found[len(found)-limit:]
		}
		limit = -1
		return c.print(a.out, found)
	})
}

// selectEvents returns the events of the named services, or all if none is named. It modifies events.
func (c eventsCmd) selectEvents(events []eventlog.Event) []eventlog.Event {
	if len(c.Services) == 0 {
		return events
	}
	return slices.DeleteFunc(events, func(e eventlog.Event) bool { return !slices.Contains(c.Services, e.Service) })
}

func (c eventsCmd) print(w io.Writer, events []eventlog.Event) error {
	b := bufio.NewWriter(w)
	for _, event := range events {
		if c.isJSON() {
			if err := output.JSONLine(b, event); err != nil {
				return err
			}
		} else {
			fmt.Fprintln(b, formatEvent(event))
		}
	}
	return b.Flush()
}

// formatEvent formats an event as one line: the time, the service ("-" for the project itself), the change, the reason and the hint.
func formatEvent(e eventlog.Event) string {
	return formatLocalTime(e.Time) + "  " + output.EscapeLine(cmp.Or(e.Service, "-")) + "  " + formatWhatHappened(e)
}

// formatServiceEvent is formatEvent without the service, which the reader knows.
func formatServiceEvent(e eventlog.Event) string {
	return formatLocalTime(e.Time) + "  " + formatWhatHappened(e)
}

func formatWhatHappened(e eventlog.Event) string {
	parts := []string{formatChange(e)}
	for _, text := range []string{e.Reason, e.Hint} {
		if text != "" {
			parts = append(parts, output.JoinLines(text))
		}
	}
	return output.EscapeLine(strings.Join(parts, ": "))
}

func formatChange(e eventlog.Event) string {
	kind := string(e.Kind)
	switch {
	case e.Kind == eventlog.StateChanged && e.From != "":
		return e.From + " → " + e.To
	case e.Kind == eventlog.StateChanged:
		return e.To
	case e.To != "" && e.To != kind:
		return kind + " (" + e.To + ")"
	}
	return kind
}
