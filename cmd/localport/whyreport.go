package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/layout"
	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/project"
)

// whyReport is what "why" prints. Its JSON form is stable: fields are added, never changed or removed.
type whyReport struct {
	Project      string `json:"project"`              // the root
	ProjectState string `json:"project_state"`        // "running" or "stopped"
	Pending      string `json:"pending,omitempty"`    // why the files on disk are not what runs, or why the last start failed
	Unanswered   string `json:"unanswered,omitempty"` // why the supervisor could not be asked: then the service is as the state file has it
	// Service is as in "status --json".
	Service  api.ServiceStatus `json:"service"`
	Settings []project.Setting `json:"settings"`
	Defaults string            `json:"defaults,omitempty"` // what nobody has set, in the notation of the config
	History  []eventlog.Event  `json:"history"`            // the last changes of state, oldest first
	Ports    []portHolder      `json:"ports"`              // the local addresses
	Facts    []forwarder.Fact  `json:"facts"`              // what the technology has found out
	Missing  string            `json:"missing,omitempty"`  // what a service that is idle or stopped will need, and this machine lacks
	Next     string            `json:"next_step"`

	// Allowed is set if the files on disk are allowed.
	Allowed bool `json:"allowed"`
}

// The limits of the text.
const (
	whyLines     = 25 // at whatever width; without a terminal, lines are not wrapped
	shownHistory = 3
	shownLines   = 3 // of one entry
	errorLines   = 5 // of one that is never left out
	labelWidth   = 10
)

// whyEntry is one paragraph of the text.
type whyEntry struct {
	label, text string
	// rank says which entries are left out if the text becomes too long: those with the highest rank first, the later ones of them first. The rank
	// 0 is never left out.
	rank int
}

// print prints the report in at most whyLines lines of width columns. Without a terminal, width is 0 and each entry is one line.
func (r *whyReport) print(w io.Writer, width int) {
	entries := r.entries()
	hint := "hint: " + r.Next
	limit := whyLines - len(layout.WrapText(hint, width))
	for countLines(entries, width) > limit {
		i := leastImportant(entries)
		if i < 0 {
			break
		}
		entries = slices.Delete(entries, i, i+1)
	}
	previous := ""
	for _, e := range entries {
		label := e.label
		if label == previous {
			label = ""
		}
		previous = e.label
		for _, line := range e.lines(width) {
			if e.label != "" {
				line = fmt.Sprintf("  %-*s%s", labelWidth, label, line)
			}
			fmt.Fprintln(w, strings.TrimRight(line, " "))
			label = ""
		}
	}
	printLines(w, layout.WrapText(hint, width))
}

// lines are the lines of an entry without its label. A long text is cut.
func (e whyEntry) lines(width int) []string {
	if e.label != "" && width > 0 {
		width -= labelWidth + 2
	}
	lines, limit := layout.WrapText(e.text, width), shownLines
	if e.rank == 0 {
		limit = errorLines
	}
	if len(lines) > limit {
		rest := strings.Join(lines[limit-1:], " ") // it does not fit
		lines = append(lines[:limit-1], layout.Truncate(rest, width))
	}
	return lines
}

// printLines writes each line with a newline.
func printLines(w io.Writer, lines []string) {
	for _, line := range lines {
		fmt.Fprintln(w, line)
	}
}

func countLines(entries []whyEntry, width int) (n int) {
	for _, e := range entries {
		n += len(e.lines(width))
	}
	return n
}

// leastImportant returns the index of the entry that is left out first; -1 if none may be.
func leastImportant(entries []whyEntry) int {
	least := -1
	for i, e := range entries {
		if e.rank > 0 && (least < 0 || e.rank >= entries[least].rank) {
			least = i
		}
	}
	return least
}

// entries are the paragraphs in the order of the text.
func (r *whyReport) entries() []whyEntry {
	svc := r.Service
	all := []whyEntry{{text: r.headline()}}
	add := func(rank int, label, text string) {
		if text != "" {
			all = append(all, whyEntry{label, output.JoinLines(text), rank})
		}
	}
	if !r.isUnreviewed() {
		add(0, "project", r.Pending)
	}
	add(0, "project", r.Unanswered)
	add(0, "error", svc.LastError)
	add(0, "missing", r.Missing)
	if showsRefusal(svc) {
		add(0, "refused", fmt.Sprintf("%s ago: %s", formatAge(svc.LastRefusal.Time), svc.LastRefusal.Reason))
	}
	for _, event := range r.History {
		add(5, "history", r.formatHistory(event))
	}
	add(4, "port", r.describePort())
	add(2, "target", svc.Target)
	for _, fact := range r.Facts {
		add(3, fact.Label, fact.Text)
	}
	add(4, "health", describeHealth(svc))
	add(4, "restarts", describeRestarts(svc))
	add(4, "clients", describeClients(svc))
	for _, s := range r.Settings {
		add(6, "config", fmt.Sprintf("%s = %s (%s)", s.Key, s.Value, s.Origin.Describe(r.Project)))
	}
	if r.Defaults != "" {
		add(7, "config", r.Defaults+" (defaults)")
	}
	if svc.State != forwarder.Stopped {
		add(8, "log", svc.Log)
	}
	return all
}

// headline says how the service is, since when, and where to connect to if it can be.
func (r *whyReport) headline() string {
	svc := r.Service
	switch {
	case r.Unanswered != "":
		return fmt.Sprintf("%s: unknown, because the supervisor does not answer", svc.Name)
	case r.isUnreviewed():
		return svc.Name + ": stopped, because the project's files are new or changed and not allowed"
	case r.ProjectState == api.StateStopped:
		return svc.Name + ": stopped, like the whole project"
	case svc.State == forwarder.Stopped && svc.Ending:
		return svc.Name + ": stopped; processes of its tunnel are still ending"
	case svc.State == forwarder.Stopped && !svc.Enabled:
		return svc.Name + ": stopped, because the config has enabled = false"
	}
	line := fmt.Sprintf("%s: %s for %s", svc.Name, strings.ReplaceAll(formatState(svc), "_", " "), formatAge(svc.Since))
	if text := describeSharing(svc); text != "" {
		line += ", " + strings.TrimPrefix(text, "shared: ")
	}
	return line
}

// isUnreviewed reports whether the project does not run and may not be started.
func (r *whyReport) isUnreviewed() bool { return r.ProjectState == api.StateStopped && !r.Allowed }

// addPreflight adds what is missing for the tunnel of a service that is idle or stopped; failure is nil if nothing is.
func (r *whyReport) addPreflight(svc project.Service, failure *forwarder.Failure, secrets []string) {
	if failure == nil {
		return
	}
	mask := func(text string) string { return output.JoinLines(project.Mask(svc.MaskTarget(text), secrets)) }
	r.Missing = mask(failure.Reason)
	if failure.Hint != "" {
		r.Next = mask(failure.Hint)
	}
}

// formatHistory is an event with its local time. The reason that the report gives as its error is not repeated.
func (r *whyReport) formatHistory(e eventlog.Event) string {
	layout := time.TimeOnly
	if time.Since(e.Time) > 12*time.Hour {
		layout = time.DateTime
	}
	line := fmt.Sprintf("%s %s", e.Time.Local().Format(layout), formatChange(e))
	if e.Reason != "" && e.Reason != r.Service.LastError {
		line += ": " + e.Reason
	}
	return line
}

// describePort says who has the local addresses.
func (r *whyReport) describePort() string {
	var parts []string
	for _, p := range r.Ports {
		switch {
		case p.Own && (r.Service.Shared == nil || p.Holder == ""):
			parts = append(parts, p.Address+" is open")
		case p.Holder == "":
			parts = append(parts, p.Address+" is closed")
		case p.Own:
			parts = append(parts, p.Address+" is open, held by "+p.Holder)
		default:
			parts = append(parts, p.Address+" is in use by "+p.Holder)
		}
	}
	if len(parts) == 2 { // usually the same of both loopback addresses
		_, first, _ := strings.Cut(parts[0], " ")
		address, second, _ := strings.Cut(parts[1], " ")
		if first == second {
			return fmt.Sprintf("%s and %s: %s", r.Ports[0].Address, address, strings.TrimPrefix(first, "is "))
		}
	}
	if r.Service.Reverse {
		return "none: a reverse forward listens at the far side"
	}
	return strings.Join(parts, "; ")
}

// describeHealth says what the health checks found.
func describeHealth(svc api.ServiceStatus) string {
	switch {
	case svc.State == forwarder.Stopped || svc.Health.Check == "":
		return ""
	case svc.Health.Check == project.CheckNone:
		return "not checked: health_check.type is none"
	case svc.Health.Checked == nil:
		return svc.Health.Check + ", not checked yet"
	}
	return formatHealth(svc) + describeCounts(": ", svc.Health.Results)
}

func describeRestarts(svc api.ServiceStatus) string {
	if svc.Restarts == 0 && len(svc.RestartReasons) == 0 {
		return ""
	}
	return fmt.Sprint(svc.Restarts) + describeCounts("; attempts by reason: ", svc.RestartReasons)
}

// describeCounts lists counts by name, in alphabetical order.
func describeCounts(before string, counts map[string]uint64) string {
	parts := make([]string, 0, len(counts))
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", strings.ReplaceAll(name, "_", " "), counts[name]))
	}
	if len(parts) == 0 {
		return ""
	}
	return before + strings.Join(parts, ", ")
}

func describeClients(svc api.ServiceStatus) string {
	c := svc.Connections
	if c.Open == 0 && c.Total == 0 {
		return ""
	}
	line := fmt.Sprintf("%d connected, %d waiting, %d in total", c.Open-c.Waiting, c.Waiting, c.Total)
	if c.Shortage != "" {
		line += "; " + c.Shortage
	}
	return line
}
