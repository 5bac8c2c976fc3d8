package main

import (
	"strconv"

	"github.com/localport-sh/localport/cmd/localport/internal/layout"
	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/api"
)

// The titles of the table's columns.
const (
	serviceTitle    = "SERVICE"
	stateTitle      = "STATE"
	technologyTitle = "TECHNOLOGY" // the target begins with it
	addressTitle    = "LOCAL ADDRESS"
	targetTitle     = "TARGET"
	healthTitle     = "HEALTH"
	uptimeTitle     = "UP"
	restartsTitle   = "RESTARTS"
	connsTitle      = "CONNS"
	errorTitle      = "LAST ERROR"
)

// statusReductions are what makes the table fit into a narrow terminal: columns are left out, the least important first, and texts shortened.
func statusReductions() []layout.Reduction {
	return []layout.Reduction{
		{Title: technologyTitle},
		{Title: targetTitle, MinWidth: 40},
		{Title: restartsTitle},
		{Title: uptimeTitle},
		{Title: targetTitle, MinWidth: 24},
		{Title: serviceTitle, MinWidth: 24},
		{Title: healthTitle},
		{Title: targetTitle, MinWidth: 16},
		{Title: connsTitle},
		{Title: targetTitle},
		{Title: serviceTitle, MinWidth: 12},
		{Title: stateTitle, MinWidth: 9},
		{Title: addressTitle},
		{Title: serviceTitle, MinWidth: 4},
		{Title: stateTitle, MinWidth: 4},
		{Title: stateTitle},
	}
}

// tableLines returns a table of the services. On a terminal, of width columns, each is one line that fits, and errors are not in the table; without
// one, for which width is 0, it has everything.
func tableLines(services []api.ServiceStatus, width int) []output.Line {
	t := layout.Table{
		Titles: []string{
			serviceTitle, stateTitle, technologyTitle, addressTitle, targetTitle, healthTitle, uptimeTitle, restartsTitle, connsTitle,
		},
		Reductions: statusReductions(),
	}
	for _, svc := range services {
		row := []output.Span{
			{Text: svc.Name},
			stateSpan(svc),
			{Text: svc.Technology},
			{Text: formatLocalAddress(svc)},
			{Text: svc.Target},
			{Text: formatHealth(svc)},
			{Text: formatUptime(svc)},
			{Text: strconv.Itoa(svc.Restarts)},
			{Text: formatConnections(svc)},
		}
		if width == 0 {
			row = append(row, output.Span{Text: formatLastError(svc)})
		}
		t.Rows = append(t.Rows, row)
	}
	if width == 0 {
		t.Titles = append(t.Titles, errorTitle)
	}
	return t.Lines(width)
}

func stateSpan(svc api.ServiceStatus) output.Span {
	return output.Span{Style: output.StateStyle(svc.EffectiveState()), Text: formatState(svc)}
}
