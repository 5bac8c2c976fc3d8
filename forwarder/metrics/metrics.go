// Package metrics shows a project's forwards to Prometheus: its text format, the listener that serves it, and the
// histogram that the supervisor keeps.
package metrics

import (
	"io"
	"maps"
	"slices"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
)

// states are all that a forward can be in.
var states = []forwarder.State{
	forwarder.Idle, forwarder.Starting, forwarder.Healthy, forwarder.Unhealthy, forwarder.Restarting,
	forwarder.NeedsAttention, forwarder.Failed, forwarder.Stopped,
}

// figures are those that a service has one of.
var figures = []struct {
	kind, name, help string
	of               func(api.ServiceStatus) float64
}{
	{gauge, "up", "Whether a client may count on the service: it is healthy, or idle until somebody connects.", func(s api.ServiceStatus) float64 {
		return flag(s.State.Ready())
	}},
	{gauge, "connections_open", "Clients that have a connection through a tunnel.", func(s api.ServiceStatus) float64 {
		return float64(s.Connections.Open)
	}},
	{gauge, "connections_waiting", "Clients that wait for a tunnel.", func(s api.ServiceStatus) float64 {
		return float64(s.Connections.Waiting)
	}},
	{counter, "connections_total", "Clients accepted.", func(s api.ServiceStatus) float64 {
		return float64(s.Connections.Total)
	}},
	{counter, "connections_waited_total", "Clients that could not go through at once.", func(s api.ServiceStatus) float64 {
		return float64(s.Connections.Waited)
	}},
	{counter, "wait_seconds_total", "How long clients waited for a tunnel, taken together.", func(s api.ServiceStatus) float64 {
		return s.Connections.WaitTime
	}},
	{counter, "replays_total", "How often what a client had sent was sent again through another tunnel.", func(s api.ServiceStatus) float64 {
		return float64(s.Connections.Replays)
	}},
	{counter, "received_bytes_total", "Bytes that localport received from clients.", func(s api.ServiceStatus) float64 {
		return float64(s.Connections.BytesIn)
	}},
	{counter, "sent_bytes_total", "Bytes that localport sent to clients.", func(s api.ServiceStatus) float64 {
		return float64(s.Connections.BytesOut)
	}},
}

// Write writes the project's metrics in Prometheus's text format 0.0.4, running or not. It shows names and numbers, and
// no address, target or error.
func Write(w io.Writer, status api.Status) error {
	var p page
	project := labels{{"project", status.Project}}
	for _, f := range figures {
		p.each(f.kind, f.name, f.help, status, func(l labels, s api.ServiceStatus) { p.sample(l, f.of(s)) })
	}
	p.each(gauge, "state", "1 for the state that the service is in, 0 for all others.", status, p.states)
	p.each(counter, "restarts_total", "Tunnels opened after the first, by what ended the one before.", status, p.restarts)
	p.each(counter, "probe_total", "Health checks, by what came of them.", status, p.probes)
	p.each(histogram, "probe_duration_seconds", "How long health checks took.", status, p.durations)
	p.leases(project, status.Leases)
	if status.Supervisor != nil {
		p.supervisor(project, status.Supervisor)
	}
	_, err := w.Write(p.Bytes())
	return err
}

// each writes a family that every service has a part in. A family without any sample is left out.
func (p *page) each(kind, name, help string, status api.Status, part func(labels, api.ServiceStatus)) {
	begin := p.Len()
	p.family(kind, name, help)
	empty := p.Len()
	for _, s := range status.Services {
		part(labels{{"project", status.Project}, {"service", s.Name}}, s)
	}
	if p.Len() == empty {
		p.Truncate(begin)
	}
}

func (p *page) states(l labels, s api.ServiceStatus) {
	l = l.with("technology", s.Technology)
	for _, state := range states {
		p.sample(l.with("state", string(state)), flag(s.State == state))
	}
}

// restarts by reason; those for which the supervisor gave none count as other.
func (p *page) restarts(l labels, s api.ServiceStatus) {
	other := uint64(max(s.Restarts, 0))
	for _, reason := range slices.Sorted(maps.Keys(s.RestartReasons)) {
		n := s.RestartReasons[reason]
		other -= min(other, n)
		if reason != "other" {
			p.sample(l.with("reason", reason), float64(n))
		}
	}
	p.sample(l.with("reason", "other"), float64(other+s.RestartReasons["other"]))
}

func (p *page) probes(l labels, s api.ServiceStatus) {
	for _, result := range slices.Sorted(maps.Keys(s.Health.Results)) {
		p.sample(l.with("result", result), float64(s.Health.Results[result]))
	}
}

func (p *page) durations(l labels, s api.ServiceStatus) {
	if h := s.Health.Latencies; h != nil && len(h.Counts) == len(h.Bounds)+1 {
		p.distribution(l.with("check", s.Health.Check), h)
	}
}

func (p *page) leases(project labels, leases []api.Lease) {
	p.family(gauge, "leases", "Claims that keep the project up, by what holds them.")
	for _, kind := range []string{api.ShellLease, api.ExecLease, api.StartLease} {
		n := 0
		for _, lease := range leases {
			if lease.Kind == kind {
				n++
			}
		}
		p.sample(project.with("kind", kind), float64(n))
	}
}

func (p *page) supervisor(project labels, s *api.SupervisorStatus) {
	p.family(gauge, "info", "The supervisor's version.")
	p.sample(project.with("version", s.Version), 1)
	p.family(gauge, "supervisor_start_time_seconds", "When the supervisor started, in seconds since 1970.")
	p.sample(project, float64(s.Since.UnixMilli())/1000)
	if s.Memory > 0 {
		p.family(gauge, "supervisor_resident_memory_bytes", "The supervisor's memory.")
		p.sample(project, float64(s.Memory))
	}
}

func flag(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
