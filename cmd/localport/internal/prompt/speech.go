package prompt

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/environ"
)

// What the hook says at a prompt: by the user's verbosity. Errors are said in any, for they need the user.

// brief is an error on one line.
func brief(err error) string {
	if invalid, ok := errors.AsType[*project.InvalidError](err); ok {
		return invalid.Summary() + `; run "localport config validate"`
	}
	return err.Error()
}

// entered says what a project has that was just entered or brought up, and what is wrong with the user's own config.
func (l *look) entered(view api.View) {
	user, err := l.user()
	if err != nil {
		output.Warn(l.err, brief(err))
	}
	if text := summary(l.root, view, user.Verbosity); text != "" {
		output.Info(l.err, "%s", text)
	}
}

// happened says which services failed and which recovered since this shell looked last; nothing to one that has just
// entered.
func (l *look) happened(p *client.Place) {
	seen, now := lineNumber(l.Line), lineNumber(l.line)
	if l.Root != l.root || seen == 0 || now <= seen {
		return
	}
	events, err := eventlog.EventsSince(p.Dir.LogDir(), seen)
	if err != nil {
		return // it is for the user's convenience alone
	}
	for _, event := range latest(events) {
		if event.PromptLine > now {
			continue // the next prompt is told of it
		}
		if text := sentence(event); text != "" {
			output.Info(l.err, "%s", text)
		}
	}
}

// lineNumber is the number in a prompt's line.
func lineNumber(line string) uint64 {
	number, _, _ := strings.Cut(line, " ")
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// latest is the last event of each service that failed or recovered: what came before it is over.
func latest(events []eventlog.Event) []eventlog.Event {
	var last []eventlog.Event
	for _, event := range events {
		last = slices.DeleteFunc(last, func(e eventlog.Event) bool { return e.Service == event.Service && e.Kind != eventlog.ConfigPending })
		last = append(last, event)
	}
	return last
}

// sentence is an event at a prompt. That files changed is said where it is found.
func sentence(e eventlog.Event) string {
	switch e.Kind {
	case eventlog.ServiceRecovered:
		return e.Service + " recovered"
	case eventlog.ServiceFailed:
		text := e.Service + " " + output.State(forwarder.State(e.To))
		if e.Reason != "" {
			text += ": " + output.Flatten(e.Reason)
		}
		if e.Hint != "" {
			text += "; " + output.Flatten(e.Hint)
		}
		return text
	}
	return ""
}

// changed says which variables change, to a user who wants to know: +SET -UNSET.
func (l *look) changed() {
	changes := environ.ListChanges(l.was, l.next)
	if len(changes) == 0 {
		return
	}
	if user, _ := l.user(); user.Verbosity != project.VerbosityVerbose {
		return
	}
	var names []string
	for _, change := range changes {
		switch {
		case strings.HasPrefix(change.Name, "LOCALPORT_"): // our own
		case change.Value == nil:
			names = append(names, "-"+change.Name)
		default:
			names = append(names, "+"+change.Name)
		}
	}
	if len(names) > 0 {
		output.Info(l.err, "%s", strings.Join(names, " "))
	}
}

// summary is the one line that entering prints: services, ports, and what is not ready. To a quiet user it is those
// services alone that wait for him, and nothing if there are none.
func summary(root string, view api.View, verbosity project.Verbosity) string {
	var parts []string
	for _, svc := range view.Services {
		if text := summaryOf(svc); text != "" && (verbosity != project.VerbosityQuiet || needsUser(svc.State)) {
			parts = append(parts, text)
		}
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

func summaryOf(svc api.ServiceView) string {
	switch {
	case svc.State == forwarder.Stopped:
		return ""
	case svc.State.Ready():
		return fmt.Sprintf("%s :%d", svc.Name, svc.Port)
	case svc.Reason != "":
		return fmt.Sprintf("%s :%d (%s: %s)", svc.Name, svc.Port, svc.State, output.Flatten(svc.Reason))
	}
	return fmt.Sprintf("%s :%d (%s)", svc.Name, svc.Port, svc.State)
}
