package top

import (
	"fmt"
	"slices"
	"strings"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
)

// The commands of localport that keys run.
const (
	verbRestart = "restart"
	verbStop    = "stop"
	verbStart   = "start"
	verbLogin   = "login"
	verbWhy     = "why"
)

// binding is a key, or several with the same meaning, and what it does in modeBrowse.
type binding struct {
	keys   []string
	label  string // in the last line; empty: only the help shows it
	help   string // empty: the binding before explains it
	action func(Model) (Model, []Effect)
}

// bindings are all keys of modeBrowse, in the order of the help. Those with a label are in the last line, as far as there is room.
func bindings() []binding {
	return []binding{
		{[]string{"up", "k"}, "", "select a service; also down, j, home, end", moveSelection(-1)},
		{[]string{"down", "j"}, "", "", moveSelection(1)},
		{[]string{"home", "g"}, "", "", moveSelection(-maxServices)},
		{[]string{"end", "G"}, "", "", moveSelection(maxServices)},
		{[]string{"pgup", "b"}, "", "scroll the lower part; also pgdown, space", scrollBy(-pageSize)},
		{[]string{"pgdown", "space"}, "", "", scrollBy(pageSize)},
		{[]string{"tab", "enter"}, "", "show the next view: overview, logs, why", Model.nextPanel},
		{[]string{"r"}, "restart", "restart the service; its port stays open", Model.requestRestart},
		{[]string{"s"}, "stop", "stop the service for all shells, after confirmation", Model.requestStop},
		{[]string{"S"}, "", "start the service, and keep it running without a shell", runVerb(verbStart)},
		{[]string{"l"}, "logs", "show or close the log of the service", togglePanel(panelLogs)},
		{[]string{"i"}, "log in", "log in to the service, in this terminal", Model.login},
		{[]string{"y", "c"}, "copy", "copy the address of the service (OSC 52)", Model.copyAddress},
		{[]string{"w"}, "why", "show or close the explanation of the service's state", togglePanel(panelWhy)},
		{[]string{"/"}, "filter", "show only services that contain a text", setMode(modeFilter)},
		{[]string{"o"}, "order", "order by config, name, state or traffic", Model.nextSortOrder},
		{[]string{"?", "h", "f1"}, "help", "show this help", setMode(modeHelp)},
		{[]string{"ctrl+l"}, "", "draw the screen again", func(m Model) (Model, []Effect) { return m, []Effect{Redraw{}} }},
		{[]string{"esc"}, "", "close the logs or the explanation; else clear the filter", Model.back},
		{[]string{"q", "ctrl+c"}, "quit", "quit; the services keep running", func(m Model) (Model, []Effect) { return m, []Effect{Quit{}} }},
	}
}

// maxServices is more than any project has.
const maxServices = 1 << 20

func moveSelection(by int) func(Model) (Model, []Effect) {
	return func(m Model) (Model, []Effect) { return m.withSelectionMoved(by) }
}

func scrollBy(lines int) func(Model) (Model, []Effect) {
	return func(m Model) (Model, []Effect) { return m.withScroll(lines), nil }
}

func setMode(to mode) func(Model) (Model, []Effect) {
	return func(m Model) (Model, []Effect) {
		m.mode, m.notice = to, notice{}
		return m, nil
	}
}

func runVerb(verb string) func(Model) (Model, []Effect) {
	return func(m Model) (Model, []Effect) { return m.runCommand(verb) }
}

func togglePanel(p panel) func(Model) (Model, []Effect) {
	return func(m Model) (Model, []Effect) {
		if m.panel == p {
			return m.withPanel(panelOverview)
		}
		return m.withPanel(p)
	}
}

func (m Model) nextPanel() (Model, []Effect) { return m.withPanel((m.panel + 1) % panelCount) }

// withKey is Update for a key.
func (m Model) withKey(key KeyMsg) (Model, []Effect) {
	switch key.Key {
	case "ctrl+c":
		return m, []Effect{Quit{}}
	case "ctrl+z":
		return m, []Effect{Suspend{}}
	}
	switch m.mode {
	case modeFilter:
		return m.withFilterKey(key), nil
	case modeConfirm:
		return m.withConfirmKey(key)
	case modeHelp:
		m.mode = modeBrowse
		return m, nil
	default:
		for _, b := range bindings() {
			if slices.Contains(b.keys, key.Key) {
				return b.action(m)
			}
		}
		return m, nil
	}
}

func (m Model) withFilterKey(key KeyMsg) Model {
	switch key.Key {
	case "enter":
		m.mode = modeBrowse
	case "esc":
		m.mode, m.filter = modeBrowse, ""
	case "ctrl+u":
		m.filter = ""
	case "backspace":
		if runes := []rune(m.filter); len(runes) > 0 {
			m.filter = string(runes[:len(runes)-1])
		}
	default:
		m.filter += key.Text
	}
	return m.withValidSelection()
}

func (m Model) withConfirmKey(key KeyMsg) (Model, []Effect) {
	asked := m.request
	m.mode, m.request = modeBrowse, request{}
	if key.Key != "y" && key.Key != "Y" {
		return m.withNotice("nothing was changed", false), nil
	}
	return m.runCommandOn(asked.verb, asked.service)
}

func (m Model) withSelectionMoved(by int) (Model, []Effect) {
	services := m.services()
	if len(services) == 0 {
		return m, nil
	}
	i := slices.IndexFunc(services, func(svc api.ServiceStatus) bool { return svc.Name == m.selected })
	m = m.withSelection(services[min(max(i+by, 0), len(services)-1)].Name)
	if m.panel == panelWhy { // an answer is asked for by a key, not by passing over services
		m.panel = panelOverview
	}
	return m, m.readLog()
}

// pageSize is how many lines a key scrolls.
const pageSize = 5

// withScroll scrolls the panel by lines, down if positive.
func (m Model) withScroll(by int) Model {
	if m.panel == panelLogs { // it shows its end
		by = -by
	}
	m.scroll = max(0, min(m.scroll+by, m.maxScroll()))
	return m
}

// withPanel shows another panel. Its log is read, or its answer asked for, at once.
func (m Model) withPanel(p panel) (Model, []Effect) {
	m.panel, m.scroll = p, 0
	svc, ok := m.selectedService()
	if p != panelWhy || !ok {
		return m, m.readLog()
	}
	m.answer = answer{service: svc.Name, pending: true}
	return m, []Effect{RunCommand{verbWhy, svc.Name}}
}

func (m Model) back() (Model, []Effect) {
	if m.panel != panelOverview {
		return m.withPanel(panelOverview)
	}
	m.filter = ""
	return m.withValidSelection(), nil
}

func (m Model) nextSortOrder() (Model, []Effect) {
	m.sort = (m.sort + 1) % sortOrderCount
	return m.withNotice("ordered by "+strings.TrimSuffix(m.sort.title(), " order"), false), nil
}

// requestRestart restarts the service, after a question if that may end connections.
func (m Model) requestRestart() (Model, []Effect) {
	svc, ok := m.selectedService()
	if !ok || svc.Connections.Open == 0 {
		return m.runCommand(verbRestart)
	}
	question := fmt.Sprintf("restart %s? this ends its %s (y/n)", svc.Name, count(svc.Connections.Open, "connection"))
	m.mode, m.request = modeConfirm, request{verbRestart, svc.Name, question}
	return m, nil
}

func (m Model) requestStop() (Model, []Effect) {
	svc, ok := m.selectedService()
	if !ok {
		return m, nil
	}
	if svc.State == forwarder.Stopped {
		return m.withNotice(svc.Name+" is stopped; r or S starts it", false), nil
	}
	m.mode, m.request = modeConfirm, request{verbStop, svc.Name, fmt.Sprintf("stop %s for all shells? (y/n)", svc.Name)}
	return m, nil
}

// runCommand runs a command of localport on the selected service.
func (m Model) runCommand(verb string) (Model, []Effect) {
	svc, ok := m.selectedService()
	if !ok {
		return m, nil
	}
	return m.runCommandOn(verb, svc.Name)
}

func (m Model) runCommandOn(verb, service string) (Model, []Effect) {
	m.notice = notice{text: fmt.Sprintf("%s %s …", verb, service)}
	return m, []Effect{RunCommand{verb, service}}
}

func (m Model) login() (Model, []Effect) {
	svc, ok := m.selectedService()
	if !ok {
		return m, nil
	}
	return m, []Effect{RunInTerminal{verbLogin, svc.Name}}
}

func (m Model) copyAddress() (Model, []Effect) {
	svc, ok := m.selectedService()
	switch {
	case !ok:
		return m, nil
	case svc.Address == "":
		return m.withNotice(svc.Name+" has no local address: the far side listens", true), nil
	}
	return m.withNotice(svc.Address+" sent to the terminal's clipboard", false), []Effect{Copy{svc.Address}}
}

// count returns "1 connection" or "3 connections".
func count(n int, word string) string {
	if n != 1 {
		word += "s"
	}
	return fmt.Sprintf("%d %s", n, word)
}
