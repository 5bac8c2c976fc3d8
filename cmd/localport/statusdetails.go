package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/layout"
	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/eventlog"
)

// maxDetailEvents is how many of a service's last events are shown.
const maxDetailEvents = 5

// detailLines returns everything that is known about the services of a status, which are those that the user has named.
func (p commandProject) detailLines(status api.Status, width int) []output.Line {
	lines := layout.Wrap(projectLine(filepath.Base(status.Project), status), width, messageIndent)
	events := p.lastEvents()
	for _, svc := range status.Services {
		lines = append(lines, output.Line{})
		lines = append(lines, newServiceDetails(svc, events[svc.Name]).lines(width)...)
	}
	status.Services, status.Clusters = nil, nil
	return append(lines, messageLines(status, width, false)...)
}

// lastEvents returns the last events of each service; none if they cannot be read.
func (p commandProject) lastEvents() map[string][]eventlog.Event {
	reader := eventlog.NewEventReader(p.Dir.LogDir())
	defer reader.Close()
	found, _ := reader.Read(time.Time{}) // the details are useful without them
	events := make(map[string][]eventlog.Event)
	for _, event := range found {
		own := append(events[event.Service], event)
		events[event.Service] = own[max(0, len(own)-maxDetailEvents):]
	}
	return events
}

// serviceDetails is a list of facts about a service, each with a name; the first is the name of the service.
type serviceDetails []fact

type fact struct {
	name  string
	value output.Line
}

func (d *serviceDetails) add(name, value string) {
	if value != "" {
		*d = append(*d, fact{name, output.PlainLine(value)})
	}
}

// lines returns the facts as lines that fit into width, the values below each other.
func (d serviceDetails) lines(width int) []output.Line {
	nameWidth := 0
	for _, f := range d {
		nameWidth = max(nameWidth, layout.Width(f.name))
	}
	var lines []output.Line
	for _, f := range d {
		name := output.Span{Style: output.Faint, Text: f.name + strings.Repeat(" ", nameWidth+2-layout.Width(f.name))}
		lines = append(lines, layout.Wrap(append(output.Line{name}, f.value...), width, nameWidth+2)...)
	}
	return lines
}

func newServiceDetails(svc api.ServiceStatus, events []eventlog.Event) serviceDetails {
	d := serviceDetails{{"service", output.Line{{Style: output.Heading, Text: svc.Name}}}}
	d.add("description", svc.Description)
	d = append(d, fact{"state", output.Line{stateSpan(svc), {Text: formatSince(svc)}}})
	if text := formatLastError(svc); text != "" {
		d = append(d, fact{"last error", output.Line{{Style: output.Failure, Text: text}}})
	}
	d.add("hint", output.JoinLines(hintOf(svc)))
	d.addConfig(svc)
	d.addRuntime(svc)
	d.add("log", svc.Log)
	for i, event := range events {
		name := ""
		if i == 0 {
			name = "last events"
		}
		d = append(d, fact{name, output.PlainLine(formatServiceEvent(event))})
	}
	return d
}

// addConfig adds what the config says.
func (d *serviceDetails) addConfig(svc api.ServiceStatus) {
	switch {
	case svc.Reverse:
		d.add("address", "none here: the server listens, and forwards to this machine")
	default:
		d.add("address", strings.Join(svc.Addresses, ", "))
	}
	if svc.Bridge != nil {
		d.add("containers", svc.Bridge.Address+svc.Bridge.Reason)
	}
	d.add("target", svc.Target)
	d.add("technology", svc.Technology)
	d.add("depends on", strings.Join(svc.DependsOn, ", "))
	d.add("tags", strings.Join(svc.Tags, ", "))
	if svc.Optional {
		d.add("optional", "yes: commands that do not name it do not wait for it")
	}
	if !svc.Enabled {
		d.add("enabled", "no: it is started only by its name")
	}
	if svc.Shared != nil {
		d.add("shared", fmt.Sprintf("service %s of the project %s has the port", svc.Shared.Service, svc.Shared.Project))
	}
	d.add("shared with", strings.Join(svc.SharedWith, ", "))
}

// addRuntime adds what has happened since the supervisor started.
func (d *serviceDetails) addRuntime(svc api.ServiceStatus) {
	d.add("health check", formatHealthHistory(svc.Health))
	if svc.State == forwarder.Stopped {
		return
	}
	if svc.UpSince != nil {
		d.add("tunnel", "up for "+formatAge(*svc.UpSince))
	} else if svc.Shared == nil {
		d.add("tunnel", "none")
	}
	d.add("restarts", formatCounts(fmt.Sprint(svc.Restarts), svc.RestartReasons))
	d.add("connections", formatConnectionHistory(svc.Connections))
	d.add("traffic", fmt.Sprintf("%s from clients, %s to clients", formatBytes(svc.Connections.BytesIn), formatBytes(svc.Connections.BytesOut)))
}

// formatSince says since when a service has been in its state.
func formatSince(svc api.ServiceStatus) string {
	if svc.Since.IsZero() {
		return ""
	}
	return fmt.Sprintf(" for %s, since %s", formatAge(svc.Since), formatLocalTime(svc.Since))
}

func formatHealthHistory(health api.Health) string {
	text := health.Check
	if health.Checked != nil {
		text += fmt.Sprintf(", last %s ago in %s", formatAge(*health.Checked), formatLatency(health.Latency))
	}
	return formatCounts(text, health.Results)
}

// formatCounts adds how often each thing happened, in the order of their names.
func formatCounts(text string, counts map[string]uint64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if counts[name] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[name], strings.ReplaceAll(name, "_", " ")))
		}
	}
	if parts == nil {
		return text
	}
	return text + " (" + strings.Join(parts, ", ") + ")"
}

func formatConnectionHistory(c api.ConnectionStats) string {
	text := fmt.Sprintf("%d open, %d waiting, %d in total", c.Open, c.Waiting, c.Total)
	if c.Max > 0 {
		text = fmt.Sprintf("%d open of at most %d, %d waiting, %d in total", c.Open, c.Max, c.Waiting, c.Total)
	}
	if c.Waited > 0 {
		text += fmt.Sprintf("; %d waited, %s on average", c.Waited, formatLatency(c.WaitTime/float64(c.Waited)))
	}
	if c.Replays > 0 {
		text += fmt.Sprintf("; %d sent again over a new tunnel", c.Replays)
	}
	if c.Shortage != "" {
		text += "; cannot serve more connections: " + c.Shortage
	}
	return text
}

// formatBytes formats a number of bytes with a unit of the International System.
func formatBytes(n uint64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	value, unit := float64(n), 0
	for value >= 999.5 && unit < len(units)-1 {
		value, unit = value/1000, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.3g %s", value, units[unit])
}
