package top

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/layout"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
)

// wideWidth is the width from which the overview has two columns.
const wideWidth = 120

// panelWindow returns the lines of the panel that are shown. A log shows its end, everything else its beginning.
func (m Model) panelWindow() []string {
	lines, height := m.panelLines(), m.panelHeight()
	if len(lines) <= height {
		return lines
	}
	first := min(m.scroll, len(lines)-height)
	if m.panel == panelLogs {
		first = len(lines) - height - first
	}
	return lines[first : first+height]
}

// maxScroll is by how many lines the panel can be scrolled.
func (m Model) maxScroll() int { return max(0, len(m.panelLines())-m.panelHeight()) }

func (m Model) panelLines() []string {
	svc, ok := m.selectedService()
	switch {
	case !ok:
		return m.projectLines()
	case m.panel == panelLogs:
		return m.logPanel(svc)
	case m.panel == panelWhy:
		return m.whyPanel(svc)
	}
	return m.overview(svc)
}

// logPanel are the last lines of the service's log.
func (m Model) logPanel(svc api.ServiceStatus) []string {
	switch {
	case m.logPath != svc.Log:
		return []string{dim.paint("  reading …")}
	case len(m.logLines) == 0:
		return []string{dim.paint("  the log is empty")}
	}
	lines := make([]string, 0, len(m.logLines))
	for _, line := range m.logLines {
		lineStyle := plain
		if line.IsError {
			lineStyle = red
		}
		lines = append(lines, " "+dim.paint(clock(line.Time))+" "+lineStyle.paint(clean(line.Text)))
	}
	return lines
}

// whyPanel is what "localport why" printed about the service.
func (m Model) whyPanel(svc api.ServiceStatus) []string {
	if m.answer.service != svc.Name || m.answer.pending {
		return []string{dim.paint("  asking …")}
	}
	var lines []string
	for _, line := range m.answer.lines {
		lines = append(lines, wrapIndented(" "+strings.ReplaceAll(line, "\t", "  "), m.Width)...)
	}
	return lines
}

// wrapIndented breaks a line that is too long between words. What follows is indented by two columns more than the line.
func wrapIndented(line string, width int) []string {
	if layout.StyledWidth(line) <= width {
		return []string{line}
	}
	indent := strings.Repeat(" ", min(len(line)-len(strings.TrimLeft(line, " ")), width/2))
	parts := wrap(line, width-len(indent)-2)
	for i, part := range parts {
		if parts[i] = indent + part; i > 0 {
			parts[i] = indent + "  " + part
		}
	}
	return parts
}

// overview is what is known about the service, its connections, and the last events of the project.
func (m Model) overview(svc api.ServiceStatus) []string {
	details := append(m.details(svc), m.projectLines()...)
	if m.Width >= wideWidth {
		half := m.Width/2 - 1
		return append(details, sideBySide(m.connectionLines(svc), m.eventLines(), half)...)
	}
	left := max(0, m.panelHeight()-len(details))
	connections := m.connectionLines(svc)
	if most := max(2, left/2); len(connections) > most {
		rest := len(connections) - most + 1
		connections = append(slices.Clip(connections[:most-1]), dim.paint(fmt.Sprintf("  and %d more", rest)))
	}
	if svc.Connections.Open == 0 && len(m.connections[svc.Name]) == 0 {
		connections = nil
	}
	return append(append(details, connections...), m.eventLines()...)
}

// sideBySide returns two lists as two columns, the first of width columns.
func sideBySide(left, right []string, width int) []string {
	lines := make([]string, 0, max(len(left), len(right)))
	for i := range max(len(left), len(right)) {
		var a, b string
		if i < len(left) {
			a = left[i]
		}
		if i < len(right) {
			b = right[i]
		}
		lines = append(lines, layout.Fit(a, width)+dim.paint("│")+b)
	}
	return lines
}

// details are the service's target, health and what is wrong with it.
func (m Model) details(svc api.ServiceStatus) []string {
	lines := []string{m.labelLine("target", clean(svc.Target))}
	facts := []string{formatState(svc)}
	if !svc.Since.IsZero() {
		facts[0] += " for " + m.age(svc.Since)
	}
	if svc.Health.Checked != nil {
		latency := time.Duration(svc.Health.Latency * float64(time.Second)).Round(100 * time.Microsecond)
		facts = append(facts, fmt.Sprintf("%s check %s, %s ago", clean(svc.Health.Check), latency, m.age(*svc.Health.Checked)))
	}
	if svc.Restarts > 0 {
		facts = append(facts, count(svc.Restarts, "restart"))
	}
	lines = append(lines, m.labelLine("state", strings.Join(facts, " · ")))
	if svc.Shared != nil {
		lines = append(lines, m.labelLine("shared", "project "+clean(svc.Shared.Project)+" has the port"))
	}
	message, hint := currentError(svc)
	lines = append(lines, m.wrapLabelled("error", message, red)...)
	lines = append(lines, m.wrapLabelled("hint", hint, yellow)...)
	return lines
}

// currentError returns what fails now, or else the last request that was refused, and what helps.
func currentError(svc api.ServiceStatus) (message, hint string) {
	switch {
	case svc.LastError != "" || svc.Hint != "":
		message, hint = svc.LastError, svc.Hint
	case svc.LastRefusal != nil && svc.State != forwarder.Stopped:
		message, hint = "request failed: "+svc.LastRefusal.Reason, svc.LastRefusal.Hint
	}
	if svc.State == forwarder.NeedsAttention && hint == "" {
		hint = "press i to log in"
	}
	return clean(message), clean(hint)
}

const labelWidth = 8

func (m Model) labelLine(label, text string) string {
	return " " + dim.paint(layout.Fit(label, labelWidth)) + text
}

// wrapLabelled returns text with a label, on as many lines as it needs; none if it is empty.
func (m Model) wrapLabelled(label, text string, textStyle style) []string {
	if text == "" {
		return nil
	}
	var lines []string
	for _, line := range wrap(text, m.Width-labelWidth-2) {
		lines = append(lines, " "+dim.paint(layout.Fit(label, labelWidth))+textStyle.paint(line))
		label = ""
	}
	return lines
}

// projectLines say what concerns the project as a whole.
func (m Model) projectLines() []string {
	var lines []string
	for _, text := range []string{m.status.Failure, m.status.Pending} {
		lines = append(lines, m.wrapLabelled("project", clean(text), yellow)...)
	}
	for _, text := range m.status.Warnings {
		lines = append(lines, m.wrapLabelled("warning", clean(text), yellow)...)
	}
	for _, cluster := range m.status.Clusters {
		lines = append(lines, m.wrapLabelled("cluster", clean(cluster.Trouble), red)...)
		lines = append(lines, m.wrapLabelled("hint", clean(cluster.Hint), yellow)...)
	}
	return lines
}

// connectionLines are the clients of the service: the programs of this machine by name, and how many others there are.
func (m Model) connectionLines(svc api.ServiceStatus) []string {
	stats := svc.Connections
	title := count(stats.Open, "connection")
	if stats.Waiting > 0 {
		title += fmt.Sprintf(", %d waiting", stats.Waiting)
	}
	lines := []string{" " + bold.paint(title) + dim.paint(fmt.Sprintf("  %d in total", stats.Total))}
	known := m.connections[svc.Name]
	for _, connection := range known {
		lines = append(lines, fmt.Sprintf("   %s  %s", clean(connection.Holder.String()), dim.paint(connection.Client.String())))
	}
	if others := stats.Open - len(known); others > 0 {
		lines = append(lines, dim.paint(fmt.Sprintf("   %d from other hosts or containers", others)))
	}
	if stats.Shortage != "" {
		lines = append(lines, red.paint("   "+clean(stats.Shortage)))
	}
	return lines
}

// eventLines are the last events of the project, the newest first.
func (m Model) eventLines() []string {
	lines := []string{" " + bold.paint("events")}
	for _, event := range slices.Backward(m.events) {
		name := event.Service
		if name == "" {
			name = "project"
		}
		lines = append(lines, fmt.Sprintf("   %s %s %s", dim.paint(clock(event.Time)), clean(name), clean(event.Text)))
	}
	if len(m.events) == 0 {
		lines = append(lines, dim.paint("   none"))
	}
	return lines
}

// clock returns a time of day in the local zone.
func clock(t time.Time) string {
	if t.IsZero() {
		return "        "
	}
	return t.Local().Format(time.TimeOnly)
}
