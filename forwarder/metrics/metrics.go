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

// allStates are all that a forward can be in.
var allStates = []forwarder.State{
	forwarder.Idle, forwarder.Starting, forwarder.Healthy, forwarder.Unhealthy, forwarder.Restarting,
	forwarder.NeedsAttention, forwarder.Failed, forwarder.Stopped,
}

// serviceMetrics are those that a service has one of.
var serviceMetrics = []struct {
	kind, name, help string
	of               func(api.ServiceStatus) float64
}{
	{typeGauge, "up", "Whether a client may count on the service: it is healthy, or idle until somebody connects.", func(s api.ServiceStatus) float64 {
		return boolToFloat(s.State.Ready())
	}},
	{typeGauge, "connections_open", "Clients that have a connection through a tunnel.", func(s api.ServiceStatus) float64 {
		return float64(s.Connections.Open)
	}},
	{typeGauge, "connections_waiting", "Clients that wait for a tunnel.", func(s api.ServiceStatus) float64 {
		return float64(s.Connections.Waiting)
	}},
	{typeCounter, "connections_total", "Clients accepted.", func(s api.ServiceStatus) float64 {
		return float64(s.Connections.Total)
	}},
	{typeCounter, "connections_waited_total", "Clients that could not go through at once.", func(s api.ServiceStatus) float64 {
		return float64(s.Connections.Waited)
	}},
	{typeCounter, "wait_seconds_total", "How long clients waited for a tunnel, taken together.", func(s api.ServiceStatus) float64 {
		return s.Connections.WaitTime
	}},
	{typeCounter, "replays_total", "How often what a client had sent was sent again through another tunnel.", func(s api.ServiceStatus) float64 {
		return float64(s.Connections.Replays)
	}},
	{typeCounter, "received_bytes_total", "Bytes that localport received from clients.", func(s api.ServiceStatus) float64 {
		return float64(s.Connections.BytesIn)
	}},
	{typeCounter, "sent_bytes_total", "Bytes that localport sent to clients.", func(s api.ServiceStatus) float64 {
		return float64(s.Connections.BytesOut)
	}},
}

// Write writes the project's metrics in Prometheus's text format 0.0.4, running or not. It shows names and numbers, and
// no address, target or error.
func Write(w io.Writer, status api.Status) error {
	var p exposition
	project := labels{{"project", status.Project}}
	for _, f := range serviceMetrics {
		p.writePerService(f.kind, f.name, f.help, status, func(l labels, s api.ServiceStatus) { p.writeSample(l, f.of(s)) })
	}
	p.writePerService(typeGauge, "state", "1 for the state that the service is in, 0 for all others.", status, p.writeStates)
	p.writePerService(typeCounter, "restarts_total", "Tunnels opened after the first, by what ended the one before.", status, p.writeRestarts)
	p.writePerService(typeCounter, "probe_total", "Health checks, by what came of them.", status, p.writeProbeResults)
	p.writePerService(typeHistogram, "probe_duration_seconds", "How long health checks took.", status, p.writeProbeDurations)
	p.writeLeases(project, status.Leases)
	if status.Supervisor != nil {
		p.writeSupervisor(project, status.Supervisor)
	}
	_, err := w.Write(p.Bytes())
	return err
}

// writePerService writes a family that every service has a part in. A family without any sample is left out.
func (p *exposition) writePerService(metricType, name, help string, status api.Status, write func(labels, api.ServiceStatus)) {
	start := p.Len()
	p.startFamily(metricType, name, help)
	headerEnd := p.Len()
	for _, s := range status.Services {
		write(labels{{"project", status.Project}, {"service", s.Name}}, s)
	}
	if p.Len() == headerEnd {
		p.Truncate(start)
	}
}

func (p *exposition) writeStates(l labels, s api.ServiceStatus) {
	l = l.with("technology", s.Technology)
	for _, state := range allStates {
		p.writeSample(l.with("state", string(state)), boolToFloat(s.State == state))
	}
}

// writeRestarts by reason; those for which the supervisor gave none count as other.
func (p *exposition) writeRestarts(l labels, s api.ServiceStatus) {
	other := uint64(max(s.Restarts, 0))
	for _, reason := range slices.Sorted(maps.Keys(s.RestartReasons)) {
		n := s.RestartReasons[reason]
		other -= min(other, n)
		if reason != "other" {
			p.writeSample(l.with("reason", reason), float64(n))
		}
	}
	p.writeSample(l.with("reason", "other"), float64(other+s.RestartReasons["other"]))
}

func (p *exposition) writeProbeResults(l labels, s api.ServiceStatus) {
	for _, result := range slices.Sorted(maps.Keys(s.Health.Results)) {
		p.writeSample(l.with("result", result), float64(s.Health.Results[result]))
	}
}

func (p *exposition) writeProbeDurations(l labels, s api.ServiceStatus) {
	if h := s.Health.Latencies; h != nil && len(h.Counts) == len(h.Bounds)+1 {
		p.writeHistogram(l.with("check", s.Health.Check), h)
	}
}

func (p *exposition) writeLeases(project labels, leases []api.Lease) {
	p.startFamily(typeGauge, "leases", "Claims that keep the project up, by what holds them.")
	for _, kind := range []string{api.ShellLease, api.ExecLease, api.StartLease} {
		n := 0
		for _, lease := range leases {
			if lease.Kind == kind {
				n++
			}
		}
		p.writeSample(project.with("kind", kind), float64(n))
	}
}

func (p *exposition) writeSupervisor(project labels, s *api.SupervisorStatus) {
	p.startFamily(typeGauge, "info", "The supervisor's version.")
	p.writeSample(project.with("version", s.Version), 1)
	p.startFamily(typeGauge, "supervisor_start_time_seconds", "When the supervisor started, in seconds since 1970.")
	p.writeSample(project, float64(s.Since.UnixMilli())/1000)
	if s.Memory > 0 {
		p.startFamily(typeGauge, "supervisor_resident_memory_bytes", "The supervisor's memory.")
		p.writeSample(project, float64(s.Memory))
	}
}

func boolToFloat(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
