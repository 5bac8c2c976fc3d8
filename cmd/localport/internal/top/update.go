package top

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/process/holder"
)

// noticeDuration is how long a message stays in the last line.
const noticeDuration = 6 * time.Second

// Update returns the model after a message, and what is to be done.
func Update(m Model, msg any) (Model, []Effect) {
	switch msg := msg.(type) {
	case ResizeMsg:
		m.Width, m.Height = msg.Width, msg.Height
		return m, []Effect{Redraw{}}
	case TickMsg:
		m.Now = msg.Now
		if !m.notice.until.IsZero() && m.Now.After(m.notice.until) {
			m.notice = notice{}
		}
		return m, append(m.readLog(), Refresh{m.status.Services})
	case LogMsg:
		if svc, ok := m.selectedService(); ok && svc.Log == msg.Path {
			m.logLines, m.logPath = msg.Lines, msg.Path
		}
	case StatusMsg:
		m.Now = msg.Now
		return m.withStatus(msg.Status), nil
	case WatchEndedMsg:
		m.isWatching = false // the next refresh finds out whether there is a supervisor to watch
	case RefreshMsg:
		return m.withRefresh(msg)
	case CommandMsg:
		return m.withCommandResult(msg)
	case KeyMsg:
		return m.withKey(msg)
	case PasteMsg:
		if m.mode == modeFilter {
			m.filter += output.EscapeLine(strings.TrimSpace(msg.Text))
		}
	}
	return m, nil
}

// Start returns the model of a project, with its first status, and the first effects.
func Start(now time.Time, status api.Status, options Options) (Model, []Effect) {
	m := Model{Options: options, Now: now}.withStatus(status)
	m.traffic = m.sampleTraffic(now, status.Services)
	return m.withWatch([]Effect{Refresh{m.status.Services}})
}

// withWatch adds the effect Watch if there is a supervisor that is not watched.
func (m Model) withWatch(effects []Effect) (Model, []Effect) {
	if m.supervisor == supervisorRunning && !m.isWatching {
		m.isWatching = true
		effects = append(effects, Watch{})
	}
	return m, effects
}

// readLog reads the log of the selected service if it is shown.
func (m Model) readLog() []Effect {
	if svc, ok := m.selectedService(); ok && m.panel == panelLogs {
		return []Effect{ReadLog{svc.Name, svc.Log}}
	}
	return nil
}

// withStatus takes a status over. What has become of the supervisor is said in the last line.
func (m Model) withStatus(status api.Status) Model {
	previous, hadStatus := m.status, m.supervisor != supervisorConnecting
	m.status, m.problem = status, ""
	switch {
	case status.Supervisor == nil:
		if m.supervisor == supervisorRunning {
			m = m.withNotice("the supervisor has ended; waiting for the next one", false)
		}
		m.supervisor = supervisorStopped
	case hadStatus && m.supervisor != supervisorRunning:
		m.supervisor = supervisorRunning
		m = m.withNotice(fmt.Sprintf("connected to the supervisor (pid %d)", status.Supervisor.PID), false)
	case hadStatus && previous.Supervisor != nil && previous.Supervisor.Run != status.Supervisor.Run:
		m = m.withNotice(fmt.Sprintf("the supervisor was replaced (pid %d by %d)", previous.Supervisor.PID, status.Supervisor.PID), false)
	default:
		m.supervisor = supervisorRunning
	}
	return m.withValidSelection()
}

// withRefresh takes the result of a refresh over.
func (m Model) withRefresh(msg RefreshMsg) (Model, []Effect) {
	m.Now = msg.Now
	if msg.Err != nil {
		m.supervisor, m.problem = supervisorLost, output.JoinLines(msg.Err.Error())
		return m, []Effect{Tick{}}
	}
	m = m.withStatus(msg.Status)
	m.traffic = m.sampleTraffic(msg.Now, msg.Status.Services)
	m.connections = groupConnections(msg.Status.Services, msg.Connections)
	m.events = msg.Events
	return m.withWatch([]Effect{Tick{}})
}

func (m Model) sampleTraffic(now time.Time, services []api.ServiceStatus) map[string]*traffic {
	next := make(map[string]*traffic, len(services))
	for _, svc := range services {
		next[svc.Name] = m.traffic[svc.Name].withSample(now, svc.Connections)
	}
	return next
}

// groupConnections returns the connections by service.
func groupConnections(services []api.ServiceStatus, connections []holder.Connection) map[string][]holder.Connection {
	names := make(map[netip.AddrPort]string)
	for _, svc := range services {
		for _, addr := range listenAddresses(svc) {
			names[addr] = svc.Name
		}
	}
	grouped := make(map[string][]holder.Connection)
	for _, connection := range connections {
		if name, ok := names[connection.Server]; ok {
			grouped[name] = append(grouped[name], connection)
		}
	}
	return grouped
}

// listenAddresses returns the addresses that clients of this machine connect to.
func listenAddresses(svc api.ServiceStatus) []netip.AddrPort {
	addrs := make([]netip.AddrPort, 0, len(svc.Addresses))
	for _, text := range svc.Addresses {
		if addr, err := netip.ParseAddrPort(text); err == nil {
			addrs = append(addrs, netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()))
		}
	}
	return addrs
}

func (m Model) withNotice(text string, isError bool) Model {
	m.notice = notice{text: text, isError: isError, until: m.Now.Add(noticeDuration)}
	return m
}

// withCommandResult shows how a command of localport has ended.
func (m Model) withCommandResult(msg CommandMsg) (Model, []Effect) {
	m.Now = msg.Now
	if msg.Verb == verbWhy {
		if m.answer.service == msg.Service {
			m.answer = answer{service: msg.Service, lines: answerLines(msg)}
		}
		return m, nil
	}
	text := output.JoinLines(msg.Output)
	if msg.Err != nil {
		if text == "" {
			text = output.JoinLines(msg.Err.Error())
		}
		return m.withNotice(strings.TrimPrefix(text, "localport: "), true), nil
	}
	if text == "" {
		text = "done"
	}
	return m.withNotice(fmt.Sprintf("%s %s: %s", msg.Verb, msg.Service, strings.TrimPrefix(text, "localport: ")), false), nil
}

// answerLines returns what "localport why" printed, or why it printed nothing.
func answerLines(msg CommandMsg) []string {
	text := strings.TrimRight(output.EscapeText(msg.Output), "\n")
	if text == "" && msg.Err != nil {
		text = output.EscapeText(msg.Err.Error())
	}
	return strings.Split(text, "\n")
}

// services returns the services that the filter matches, in the order of the screen.
func (m Model) services() []api.ServiceStatus {
	shown := make([]api.ServiceStatus, 0, len(m.status.Services))
	for _, svc := range m.status.Services {
		if m.matches(svc) {
			shown = append(shown, svc)
		}
	}
	slices.SortStableFunc(shown, m.compare)
	return shown
}

// matches reports whether a service has the filter in its name, state, address, target or tags.
func (m Model) matches(svc api.ServiceStatus) bool {
	wanted := strings.ToLower(m.filter)
	for _, text := range append([]string{svc.Name, string(svc.State), svc.Address, svc.Technology, svc.Target}, svc.Tags...) {
		if strings.Contains(strings.ToLower(text), wanted) {
			return true
		}
	}
	return false
}

func (m Model) compare(a, b api.ServiceStatus) int {
	switch m.sort {
	case sortName:
		return strings.Compare(a.Name, b.Name)
	case sortState:
		return urgency(a) - urgency(b)
	case sortTraffic:
		switch x, y := m.traffic[a.Name].perSecond(), m.traffic[b.Name].perSecond(); {
		case x > y:
			return -1
		case x < y:
			return 1
		}
	}
	return 0
}

// urgency is lower for a state that needs a person more.
func urgency(svc api.ServiceStatus) int {
	order := []forwarder.State{
		forwarder.NeedsAttention, forwarder.Failed, forwarder.Unhealthy, forwarder.Restarting, forwarder.Starting,
		forwarder.Healthy, forwarder.Idle, forwarder.Stopped,
	}
	if i := slices.Index(order, svc.EffectiveState()); i >= 0 {
		return i
	}
	return len(order)
}

func (m Model) selectedService() (api.ServiceStatus, bool) {
	services := m.services()
	i := slices.IndexFunc(services, func(svc api.ServiceStatus) bool { return svc.Name == m.selected })
	if i < 0 {
		return api.ServiceStatus{}, false
	}
	return services[i], true
}

// withValidSelection selects the first service if the selected one is not shown.
func (m Model) withValidSelection() Model {
	services := m.services()
	if _, ok := m.selectedService(); !ok && len(services) > 0 {
		return m.withSelection(services[0].Name)
	}
	return m
}

func (m Model) withSelection(name string) Model {
	if m.selected != name {
		m.selected, m.scroll, m.logLines, m.logPath = name, 0, nil, ""
	}
	return m
}
