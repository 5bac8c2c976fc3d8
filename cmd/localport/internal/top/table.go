package top

import (
	"fmt"
	"slices"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/layout"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
)

// column is a column of the table of services.
type column struct {
	title   string
	width   int
	isRight bool // its text is at the right
	isColor bool // it has the colour of the state
	text    func(m Model, svc api.ServiceStatus, width int) string
}

const (
	maxNameWidth    = 32
	minSparkWidth   = 8
	maxSparkWidth   = 60
	columnGap       = 2
	addressWidth    = 21 // 255.255.255.255:65535
	rateColumnWidth = 6
)

// columns returns the columns that fit into the width. The sparkline takes what is left; the clients' names, the rates, the sparkline and the address
// are left out, in this order, where there is no room.
func (m Model) columns(services []api.ServiceStatus) []column {
	widest := func(title string, most int, text func(api.ServiceStatus) string) int {
		width := len(title)
		for _, svc := range services {
			width = max(width, layout.StyledWidth(text(svc)))
		}
		return min(width, most)
	}
	name := column{title: "SERVICE", text: func(_ Model, svc api.ServiceStatus, _ int) string { return clean(svc.Name) }}
	name.width = widest(name.title, maxNameWidth, func(svc api.ServiceStatus) string { return clean(svc.Name) })
	state := column{title: "STATE", isColor: true, text: func(_ Model, svc api.ServiceStatus, _ int) string { return formatState(svc) }}
	state.width = widest(state.title, maxNameWidth, formatState)
	address := column{title: "ADDRESS", text: func(_ Model, svc api.ServiceStatus, _ int) string { return formatAddress(svc) }}
	address.width = widest(address.title, addressWidth, formatAddress)
	conns := column{title: "CONNS", isRight: true, text: func(_ Model, svc api.ServiceStatus, _ int) string { return formatConnections(svc) }}
	conns.width = widest(conns.title, 10, formatConnections)
	clients := column{title: "CLIENTS", text: func(m Model, svc api.ServiceStatus, _ int) string { return m.clientNames(svc.Name) }}
	clients.width = widest(clients.title, 24, func(svc api.ServiceStatus) string { return m.clientNames(svc.Name) })
	in := column{title: "IN/S", width: rateColumnWidth, isRight: true, text: func(m Model, svc api.ServiceStatus, _ int) string {
		return m.formatRateOf(svc, func(t *traffic) float64 { return t.inPerSec })
	}}
	out := column{title: "OUT/S", width: rateColumnWidth, isRight: true, text: func(m Model, svc api.ServiceStatus, _ int) string {
		return m.formatRateOf(svc, func(t *traffic) float64 { return t.outPerSec })
	}}
	spark := column{title: "TRAFFIC", width: minSparkWidth, text: func(m Model, svc api.ServiceStatus, width int) string {
		return m.traffic[svc.Name].sparkline(width)
	}}
	for _, shown := range [][]column{
		{name, state, address, conns, clients, spark, in, out},
		{name, state, address, conns, spark, in, out},
		{name, state, address, conns, spark},
		{name, state, address, conns},
		{name, state, address},
		{name, state},
	} {
		if freeWidth := m.Width - tableWidth(shown); freeWidth >= 0 {
			return widen(shown, freeWidth)
		}
	}
	name.width = max(4, m.Width-tableWidth([]column{name, state})+name.width)
	return []column{name, state}
}

// widen gives the sparkline what is left of the line.
func widen(shown []column, freeWidth int) []column {
	for i := range shown {
		if shown[i].title == "TRAFFIC" {
			shown[i].width = min(shown[i].width+freeWidth, maxSparkWidth)
		}
	}
	return shown
}

// tableWidth is the width of a line of the table; the marker of the selected service takes two columns.
func tableWidth(shown []column) int {
	width := 2 - columnGap
	for _, c := range shown {
		width += c.width + columnGap
	}
	return width
}

// table returns the header and height services, around the selected one.
func (m Model) table(height int) []string {
	services := m.services()
	shown := m.columns(services)
	titles := make([]string, 0, len(shown))
	for _, c := range shown {
		titles = append(titles, c.fit(c.title))
	}
	lines := []string{dim.paint("  " + strings.Join(titles, strings.Repeat(" ", columnGap)))}
	if len(services) == 0 {
		return append(lines, m.describeEmptyTable())
	}
	selected := max(0, slices.IndexFunc(services, func(svc api.ServiceStatus) bool { return svc.Name == m.selected }))
	first := max(0, min(selected-height/2, len(services)-height))
	for _, svc := range services[first:min(first+height, len(services))] {
		lines = append(lines, m.row(svc, shown))
	}
	if hidden := len(services) - height; hidden > 0 {
		lines[0] = layout.Fit(lines[0], max(0, m.Width-12)) + dim.paint(layout.FitRight(fmt.Sprintf("%d of %d ", selected+1, len(services)), 12))
	}
	return lines
}

func (m Model) describeEmptyTable() string {
	if m.filter != "" {
		return yellow.paint("  no service contains " + clean(m.filter) + "; esc clears the filter")
	}
	return yellow.paint("  the config has no services")
}

// row returns the line of a service.
func (m Model) row(svc api.ServiceStatus, shown []column) string {
	isSelected := svc.Name == m.selected
	cells := make([]string, 0, len(shown))
	for _, c := range shown {
		text := c.fit(c.text(m, svc, c.width))
		if c.isColor && !isSelected {
			text = stateStyle(svc).paint(text)
		}
		cells = append(cells, text)
	}
	line := strings.Join(cells, strings.Repeat(" ", columnGap))
	if isSelected {
		return inverse.paint(layout.Fit("▸ "+line, m.Width))
	}
	return "  " + line
}

func (c column) fit(text string) string {
	if c.isRight {
		return layout.FitRight(text, c.width)
	}
	return layout.Fit(text, c.width)
}

// formatState returns the state; of a shared service also that at the holder, unless it is ready there.
func formatState(svc api.ServiceStatus) string {
	if svc.State == forwarder.Shared && !svc.IsReady() {
		return fmt.Sprintf("%s (%s)", svc.State, svc.EffectiveState())
	}
	return clean(string(svc.State))
}

func formatAddress(svc api.ServiceStatus) string {
	if svc.Reverse {
		return "(reverse)"
	}
	return clean(svc.Address)
}

// formatConnections returns the number of open connections, and how many of them wait for the tunnel.
func formatConnections(svc api.ServiceStatus) string {
	switch {
	case svc.State == forwarder.Stopped:
		return "-"
	case svc.Connections.Waiting > 0:
		return fmt.Sprintf("%d (%dw)", svc.Connections.Open, svc.Connections.Waiting)
	}
	return fmt.Sprint(svc.Connections.Open)
}

func (m Model) formatRateOf(svc api.ServiceStatus, of func(*traffic) float64) string {
	if t := m.traffic[svc.Name]; t != nil && svc.State != forwarder.Stopped {
		return formatRate(of(t))
	}
	return "-"
}

// clientNames names the programs that are connected to a service, each once: "psql, python ×3".
func (m Model) clientNames(service string) string {
	var names []string
	counts := make(map[string]int)
	for _, connection := range m.connections[service] {
		name := connection.Holder.Name
		if name == "" {
			name = "?"
		}
		if counts[name]++; counts[name] == 1 {
			names = append(names, name)
		}
	}
	for i, name := range names {
		if counts[name] > 1 {
			names[i] = fmt.Sprintf("%s ×%d", name, counts[name])
		}
	}
	return clean(strings.Join(names, ", "))
}
