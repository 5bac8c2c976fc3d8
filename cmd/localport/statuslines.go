package main

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/layout"
	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/api"
)

// messageIndent is how far the second and later lines of a message are indented.
const messageIndent = 2

// statusLines returns the status as text: a line about the project, the table, then errors, hints and warnings. width is the terminal's, in columns;
// 0 if there is none.
func statusLines(status api.Status, width int) []output.Line {
	lines := layout.Wrap(projectLine(filepath.Base(status.Project), status), width, messageIndent)
	lines = append(lines, tableLines(status.Services, width)...)
	return append(lines, messageLines(status, width, width > 0)...)
}

// projectLine says whether a project runs, and who uses it.
func projectLine(name string, status api.Status) output.Line {
	line := output.Line{{Style: output.Heading, Text: name}, {Text: ": " + status.State}}
	if s := status.Supervisor; s != nil {
		line = append(line, output.Span{Text: fmt.Sprintf(" for %s, %s", formatAge(s.Since), describeLeases(status.Leases))})
	}
	return line
}

// messageLines returns what follows the table, as lines that fit into width: the services' errors if withErrors is set, hints, and warnings.
func messageLines(status api.Status, width int, withErrors bool) []output.Line {
	var lines []output.Line
	for _, message := range statusMessages(status, withErrors) {
		lines = append(lines, layout.Wrap(message, width, messageIndent)...)
	}
	return lines
}

func statusMessages(status api.Status, withErrors bool) []output.Line {
	var messages []output.Line
	for _, text := range describeBridges(status.Services) {
		messages = append(messages, output.PlainLine(text))
	}
	for _, svc := range status.Services {
		if text := describeSharing(svc); text != "" {
			messages = append(messages, output.PlainLine(svc.Name+": "+text))
		}
	}
	messages = append(messages, problemMessages(status.Services, withErrors)...)
	for _, cluster := range status.Clusters {
		for _, text := range []string{cluster.Trouble, cluster.Hint} {
			if text != "" {
				name := cmp.Or(cluster.Context, cluster.Server)
				messages = append(messages, output.PlainLine(fmt.Sprintf("cluster %s: %s", name, output.JoinLines(text))))
			}
		}
	}
	for _, d := range status.Draining {
		messages = append(messages, output.PlainLine(describeDraining(d)))
	}
	for _, text := range []string{status.Failure, status.Pending} {
		if text != "" {
			messages = append(messages, output.PlainLine(output.JoinLines(text)))
		}
	}
	for _, warning := range status.Warnings {
		messages = append(messages, warningLine(warning))
	}
	return messages
}

func warningLine(text string) output.Line {
	return output.Line{{Style: output.Progress, Text: "warning"}, {Text: ": " + output.JoinLines(text)}}
}

// problemMessages returns the errors of services and their hints. Services with the same ones share them.
func problemMessages(services []api.ServiceStatus, withErrors bool) []output.Line {
	type problem struct{ err, hint string }
	var problems []problem
	names := make(map[problem][]string)
	for _, svc := range services {
		p := problem{hint: output.JoinLines(hintOf(svc))}
		if withErrors {
			p.err = formatLastError(svc)
		}
		if p == (problem{}) {
			continue
		}
		if names[p] == nil {
			problems = append(problems, p)
		}
		names[p] = append(names[p], svc.Name)
	}
	var messages []output.Line
	for _, p := range problems {
		if p.err != "" {
			messages = append(messages, output.Line{{Style: output.Failure, Text: joinNames(names[p])}, {Text: ": " + p.err}})
		}
		if p.hint != "" {
			messages = append(messages, output.Line{{Text: joinNames(names[p]) + ": "}, {Style: output.Heading, Text: p.hint}})
		}
	}
	return messages
}

// hintOf returns what to do about a service; empty if nothing is known, or nothing is to be done.
func hintOf(svc api.ServiceStatus) string {
	if svc.Hint == "" && showsRefusal(svc) {
		return svc.LastRefusal.Hint
	}
	return svc.Hint
}

// maxJoinedNames is how many names joinNames lists.
const maxJoinedNames = 5

// joinNames lists names, and counts those beyond maxJoinedNames.
func joinNames(names []string) string {
	if len(names) <= maxJoinedNames+1 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:maxJoinedNames], ", "), len(names)-maxJoinedNames)
}

// describeBridges says where containers can connect to which services, and to which they cannot although the config asks for it, and why.
func describeBridges(services []api.ServiceStatus) (lines []string) {
	var addresses, reasons []string
	lacking := make(map[string][]string) // the names of services, by reason
	for _, svc := range services {
		switch {
		case svc.Bridge == nil:
		case svc.Bridge.Address != "":
			addresses = append(addresses, svc.Name+" at "+svc.Bridge.Address)
		default:
			reason := svc.Bridge.Reason
			if svc.Bridge.Hint != "" {
				reason += "; " + svc.Bridge.Hint
			}
			if lacking[reason] == nil {
				reasons = append(reasons, reason)
			}
			lacking[reason] = append(lacking[reason], svc.Name)
		}
	}
	if len(addresses) > 0 {
		lines = append(lines, "containers connect to "+joinWords(addresses))
	}
	for _, reason := range reasons {
		lines = append(lines, fmt.Sprintf("warning: containers cannot connect to %s: %s", joinWords(lacking[reason]), output.JoinLines(reason)))
	}
	return lines
}

// describeDraining says which connections of an earlier supervisor are open, and until when.
func describeDraining(d api.Draining) string {
	services := make([]string, 0, len(d.Services))
	total := 0
	for _, svc := range d.Services {
		services = append(services, fmt.Sprintf("%d on %s", svc.Open, output.EscapeLine(svc.Name)))
		total += svc.Open
	}
	text := fmt.Sprintf("earlier %s still open (pid %d): %s", plural("connection", total), d.PID, strings.Join(services, ", "))
	if d.Until != nil {
		text += "; closed at " + d.Until.Local().Format("15:04") + " at the latest"
	}
	return text
}
