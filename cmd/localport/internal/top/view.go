package top

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/layout"
)

// The smallest size at which the screen is drawn.
const (
	minWidth  = 20
	minHeight = 5
)

// View returns the screen: lines of at most m.Width columns, at most m.Height of them.
func View(m Model) string {
	if m.Width < minWidth || m.Height < minHeight {
		return layout.Fit("terminal too small", m.Width)
	}
	lines := m.screen()
	for i := range lines {
		lines[i] = layout.Fit(lines[i], m.Width)
	}
	text := strings.Join(lines, "\n")
	if m.ASCII {
		text = toASCII.Replace(text)
	}
	if m.NoColor {
		text = withoutColors.Replace(text)
	}
	return text
}

// screen returns exactly m.Height lines: the project, the services, what the panel shows of the selected one, and the keys.
func (m Model) screen() []string {
	if m.mode == modeHelp {
		return append(pad(m.helpLines(), m.Height-1), dim.paint(" any key closes the help"))
	}
	lines := append([]string{m.header()}, m.table(m.tableHeight())...)
	lines = append(lines, m.panelTitle())
	lines = append(lines, m.panelWindow()...)
	return append(pad(lines, m.Height-1), m.lastLine())
}

// tableHeight is how many services are shown at once. The header, the table's own, the panel's title and the last line take a line each.
func (m Model) tableHeight() int {
	available := m.Height - 4
	share := 2
	if m.panel != panelOverview {
		share = 3
	}
	return max(1, min(len(m.services()), max(available/share, available-maxPanelHeight)))
}

// maxPanelHeight is how many lines a panel takes before the table gets more.
const maxPanelHeight = 40

// panelHeight is how many lines are left for the panel.
func (m Model) panelHeight() int { return max(0, m.Height-4-m.tableHeight()) }

// pad returns exactly height lines.
func pad(lines []string, height int) []string {
	for len(lines) < height {
		lines = append(lines, "")
	}
	return lines[:max(height, 0)]
}

// header says which project this is, and how it is.
func (m Model) header() string {
	left := boldCyan.paint(" "+clean(filepath.Base(m.status.Project))) + "  " + m.describeSupervisor()
	var in, out float64
	for _, t := range m.traffic {
		in, out = in+t.inPerSec, out+t.outPerSec
	}
	right := fmt.Sprintf("in %sB/s  out %sB/s ", formatRate(in), formatRate(out))
	gap := m.Width - layout.StyledWidth(left) - layout.StyledWidth(right)
	if m.supervisor != supervisorRunning || gap < 2 {
		return left
	}
	return left + strings.Repeat(" ", gap) + right
}

func (m Model) describeSupervisor() string {
	switch m.supervisor {
	case supervisorConnecting:
		return yellow.paint("connecting")
	case supervisorStopped:
		return yellow.paint("stopped: no supervisor runs")
	case supervisorLost:
		return red.paint("no answer: " + m.problem)
	}
	s := m.status.Supervisor
	return fmt.Sprintf("running for %s, %s", m.age(s.Since), m.DescribeLeases(m.status.Leases))
}

// age says how long ago t was, in one unit.
func (m Model) age(t time.Time) string {
	d := max(m.Now.Sub(t), 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}

// panelTitle separates the table from the panel, and says what that shows.
func (m Model) panelTitle() string {
	name := m.selected
	if _, ok := m.selectedService(); !ok {
		name = "project"
	}
	parts := make([]string, 0, panelCount)
	for p := range panelCount {
		titleStyle := dim
		if p == m.panel {
			titleStyle = bold
		}
		parts = append(parts, titleStyle.paint(p.title()))
	}
	title := dim.paint("── ") + boldCyan.paint(layout.Fit(clean(name), min(layout.StyledWidth(clean(name)), m.Width/2))) + "  " + strings.Join(parts, dim.paint(" · ")) + " "
	return title + dim.paint(strings.Repeat("─", max(0, m.Width-layout.StyledWidth(title))))
}

// lastLine is what the program asks, a message, or the keys.
func (m Model) lastLine() string {
	switch {
	case m.mode == modeConfirm:
		return bold.paint(" " + clean(m.request.question))
	case m.mode == modeFilter:
		return " filter: " + clean(m.filter) + inverse.paint(" ") + dim.paint("  enter keeps it, esc clears it")
	case m.notice.isError:
		return red.paint(" " + clean(m.notice.text))
	case m.notice.text != "":
		return bold.paint(" " + clean(m.notice.text))
	}
	return m.keyLine()
}

// keyLine names as many keys as fit; the last two, help and quit, always do.
func (m Model) keyLine() string {
	var labels []string
	for _, b := range bindings() {
		if b.label != "" {
			labels = append(labels, b.keys[0]+" "+b.label)
		}
	}
	required := labels[len(labels)-2:]
	labels = labels[:len(labels)-2]
	width := func() int { return layout.StyledWidth(strings.Join(slices.Concat(labels, required), "  ")) + 2 }
	for len(labels) > 0 && width() > m.Width {
		labels = labels[:len(labels)-1]
	}
	var line strings.Builder
	for _, label := range slices.Concat(labels, required) {
		key, name, _ := strings.Cut(label, " ")
		line.WriteString(" " + bold.paint(key) + " " + dim.paint(name) + " ")
	}
	return strings.TrimRight(line.String(), " ")
}

// helpLines are the keys and what the columns mean.
func (m Model) helpLines() []string {
	lines := []string{boldCyan.paint(" localport top"), ""}
	for _, b := range bindings() {
		if b.help == "" {
			continue
		}
		lines = append(lines, fmt.Sprintf(" %s  %s", bold.paint(layout.Fit(strings.Join(b.keys, " "), 10)), b.help))
	}
	lines = append(lines, "", " CONNS: open connections; 4 (1w): one of four waits for the tunnel.", " IN/S, OUT/S: bytes per second from clients and to them.")
	if len(lines) <= m.Height-1 {
		return lines
	}
	return m.compactHelp()
}

// compactHelp are the keys on a terminal with few lines: as many as fit in columns side by side.
func (m Model) compactHelp() []string {
	var cells []string
	widest := 0
	for _, b := range bindings() {
		label := b.label
		if b.help == "" {
			continue
		}
		if label == "" {
			label, _, _ = strings.Cut(b.help, ";")
		}
		cell := fmt.Sprintf(" %s %s", strings.Join(b.keys[:1], " "), label)
		cells, widest = append(cells, cell), max(widest, layout.StyledWidth(cell))
	}
	perLine := max(1, m.Width/(widest+1))
	var lines []string
	for len(cells) > 0 {
		n := min(perLine, len(cells))
		var line strings.Builder
		for _, cell := range cells[:n] {
			line.WriteString(layout.Fit(cell, widest+1))
		}
		lines, cells = append(lines, line.String()), cells[n:]
	}
	return lines
}
