package prompt

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/environ"
)

// The messages at a prompt depend on the user's verbosity. Errors are always printed. Many services take one line, without their names.
const (
	maxListedServices = 5
	maxListedEvents   = 2
)

// briefError returns the message of an error on one line.
func briefError(err error) string {
	if invalid, ok := errors.AsType[*project.InvalidError](err); ok {
		return invalid.Summary() + `; run "localport config validate"`
	}
	return err.Error()
}

// printSummary prints the services of a project that was just entered or started, and warns of an invalid user config and of values of [env] that are
// probably not what is meant.
func (e *evaluation) printSummary(view api.ProjectView) {
	user, err := e.userConfig()
	if err != nil {
		output.Warn(e.err, briefError(err))
	}
	if text := projectSummary(e.root, view, user.Verbosity); text != "" {
		output.Info(e.err, "%s", text)
	}
	for _, warning := range project.EnvAdvice(view.Env) {
		output.Warn(e.err, warning.String())
	}
}

// printOpenConnections prints, after the last lease of a project was released, which connections are open and when they end.
func (e *evaluation) printOpenConnections(root string, left api.LeaveResponse) {
	if len(left.Services) == 0 {
		return
	}
	if user, _ := e.userConfig(); user.Verbosity != project.VerbosityQuiet {
		output.Info(e.err, "%s", openConnectionsSummary(root, left))
	}
}

// openConnectionsSummary returns the line that leaving prints: "shop: 2 connections are open on db; they end in 30s (linger)".
func openConnectionsSummary(root string, left api.LeaveResponse) string {
	total := 0
	names := make([]string, 0, len(left.Services))
	for _, svc := range left.Services {
		total += svc.Open
		names = append(names, svc.Name)
	}
	what, fate, kept := "connections are", "they end", "they stay until they are closed"
	if total == 1 {
		what, fate, kept = "connection is", "it ends", "it stays until it is closed"
	}
	fate += fmt.Sprintf(" in %s (linger)", formatDuration(left.Linger))
	if left.KeepsPrograms {
		fate += ", unless a program that was started in the project is connected"
	}
	if left.Keep > 0 {
		fate = fmt.Sprintf("%s, for at most %s (linger = \"connections\")", kept, formatDuration(left.Keep))
	}
	return fmt.Sprintf("%s: %d %s open on %s; %s", filepath.Base(root), total, what, strings.Join(names, ", "), fate)
}

// formatDuration formats seconds like a time.Duration, without zeros at the end.
func formatDuration(seconds float64) string {
	text := time.Duration(seconds * float64(time.Second)).String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// printNewEvents prints which services failed or recovered since the last evaluation in this shell; nothing if it has just
// entered.
func (e *evaluation) printNewEvents(p *client.Project) {
	lastLine, currentLine := parseLineNumber(e.args.line), parseLineNumber(e.line)
	if e.args.root != e.root || lastLine == 0 || currentLine <= lastLine {
		return
	}
	events, err := eventlog.EventsSince(p.Dir.LogDir(), lastLine)
	if err != nil {
		return // the messages are a convenience
	}
	events = slices.DeleteFunc(latestEvents(events), func(event eventlog.Event) bool {
		return event.PromptLine > currentLine || formatEvent(event) == "" // the next prompt prints later ones
	})
	if len(events) > maxListedEvents {
		output.Info(e.err, "%s", eventsSummary(e.root, events))
		return
	}
	for _, event := range events {
		output.Info(e.err, "%s", formatEvent(event))
	}
}

// eventsSummary returns the line for many events that prompts report.
func eventsSummary(root string, events []eventlog.Event) string {
	recovered := 0
	for _, event := range events {
		if event.Kind == eventlog.ServiceRecovered {
			recovered++
		}
	}
	var parts []string
	if n := len(events) - recovered; n > 0 {
		parts = append(parts, countServices(n)+" not ready")
	}
	if recovered > 0 {
		parts = append(parts, countServices(recovered)+" recovered")
	}
	return filepath.Base(root) + ": " + strings.Join(parts, ", ") + ": localport status"
}

func countServices(n int) string {
	if n == 1 {
		return "1 service"
	}
	return fmt.Sprintf("%d services", n)
}

// parseLineNumber returns the number at the start of the project's line; 0 if it has none.
func parseLineNumber(line string) uint64 {
	number, _, _ := strings.Cut(line, " ")
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// latestEvents returns the last event of each service, because earlier ones are out of date.
func latestEvents(events []eventlog.Event) []eventlog.Event {
	var last []eventlog.Event
	for _, event := range events {
		last = slices.DeleteFunc(last, func(e eventlog.Event) bool { return e.Service == event.Service && e.Kind != eventlog.ConfigPending })
		last = append(last, event)
	}
	return last
}

// formatEvent returns the message for an event; empty if prompts do not report it. A pending config is reported by exportVariables.
func formatEvent(e eventlog.Event) string {
	switch e.Kind {
	case eventlog.ServiceRecovered:
		return e.Service + " recovered"
	case eventlog.ServiceFailed:
		text := e.Service + " " + output.DescribeState(forwarder.State(e.To))
		if e.Reason != "" {
			text += ": " + output.JoinLines(e.Reason)
		}
		if e.Hint != "" {
			text += "; " + output.JoinLines(e.Hint)
		}
		return text
	}
	return ""
}

// printChangedVariables prints which variables change if the verbosity is "verbose": +SET -UNSET.
func (e *evaluation) printChangedVariables() {
	changes := environ.ListChanges(e.before, e.after)
	if len(changes) == 0 {
		return
	}
	if user, _ := e.userConfig(); user.Verbosity != project.VerbosityVerbose {
		return
	}
	var names []string
	for _, change := range changes {
		switch {
		case strings.HasPrefix(change.Name, "LOCALPORT_"): // bookkeeping
		case change.Value == nil:
			names = append(names, "-"+change.Name)
		default:
			names = append(names, "+"+change.Name)
		}
	}
	if len(names) > 0 {
		output.Info(e.err, "%s", strings.Join(names, " "))
	}
}

// projectSummary returns the line that entering prints: the services with their ports, and what is not ready, or their number. With the verbosity "quiet"
// it has only the services that need the user, and is empty if none does.
func projectSummary(root string, view api.ProjectView, verbosity project.Verbosity) string {
	var parts []string
	notReady := 0
	for _, svc := range view.Services {
		if text := serviceSummary(svc); text != "" && (verbosity != project.VerbosityQuiet || needsUser(svc.EffectiveState())) {
			parts = append(parts, text)
			if !svc.EffectiveState().IsReady() {
				notReady++
			}
		}
	}
	switch n := len(parts); {
	case n <= maxListedServices:
	case notReady == 0:
		parts = []string{countServices(n) + " ready"}
	case notReady == n:
		parts = []string{countServices(n) + " not ready: localport status"}
	default:
		parts = []string{fmt.Sprintf("%s, %d not ready: localport status", countServices(n), notReady)}
	}
	if len(parts) == 0 {
		if verbosity == project.VerbosityQuiet {
			return ""
		}
		parts = append(parts, "no services are running")
	}
	return filepath.Base(root) + ": " + strings.Join(parts, ", ")
}

func needsUser(state forwarder.State) bool {
	return state == forwarder.NeedsAttention || state == forwarder.Failed
}

func serviceSummary(svc api.ServiceView) string {
	state := strings.ReplaceAll(string(svc.EffectiveState()), "_", " ")
	switch {
	case svc.State == forwarder.Stopped:
		return ""
	case svc.EffectiveState().IsReady():
		return fmt.Sprintf("%s :%d", svc.Name, svc.Port)
	case svc.Reason != "":
		return fmt.Sprintf("%s :%d (%s: %s)", svc.Name, svc.Port, state, output.JoinLines(svc.Reason))
	}
	return fmt.Sprintf("%s :%d (%s)", svc.Name, svc.Port, state)
}
