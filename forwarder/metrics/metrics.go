// Package metrics serves a project's status in Prometheus's text format, and has the histogram that the supervisor records
// durations in.
package metrics

import (
	"io"
	"maps"
	"slices"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
)

// allStates are the values of the label "state".
var allStates = []forwarder.State{
	forwarder.Idle, forwarder.Starting, forwarder.Healthy, forwarder.Unhealthy, forwarder.Restarting,
	forwarder.NeedsAttention, forwarder.Failed, forwarder.Stopped, forwarder.Shared,
}

// serviceMetrics are the metrics that have one sample per service.
var serviceMetrics = []struct {
	metricType, name, help string
	value                  func(api.ServiceStatus) float64
}{
	{typeGauge, "up", "1 if the service is healthy, or idle until a client connects.", func(s api.ServiceStatus) float64 {
		return boolToFloat(s.IsReady())
	}},
	{typeGauge, "connections_open", "Client connections that are open through a tunnel.", func(s api.ServiceStatus) float64 {
		return float64(s.Connections.Open)
	}},
	{typeGauge, "connections_waiting", "Client connections that wait for a tunnel.", func(s api.ServiceStatus) float64 {
		return float64(s.Connections.Waiting)
	}},
	{typeCounter, "connections_total", "Client connections accepted.", func(s api.ServiceStatus) float64 {
		return float64(s.Connections.Total)
	}},
	{typeCounter, "connections_waited_total", "Client connections that had to wait for a tunnel.", func(s api.ServiceStatus) float64 {
		return float64(s.Connections.Waited)
	}},
	{typeCounter, "wait_seconds_total", "Total time that client connections waited for a tunnel.", func(s api.ServiceStatus) float64 {
		return s.Connections.WaitTime
	}},
	{typeCounter, "replays_total", "Number of times a client's bytes were replayed through another tunnel.", func(s api.ServiceStatus) float64 {
		return float64(s.Connections.Replays)
	}},
	{typeCounter, "received_bytes_total", "Bytes received from clients.", func(s api.ServiceStatus) float64 {
		return float64(s.Connections.BytesIn)
	}},
	{typeCounter, "sent_bytes_total", "Bytes sent to clients.", func(s api.ServiceStatus) float64 {
		return float64(s.Connections.BytesOut)
	}},
}

// Write writes the metrics of a project, running or not, in Prometheus's text format 0.0.4. Labels hold names only: no address,
// target or error text.
func Write(w io.Writer, status api.Status) error {
	var e exposition
	project := labels{{"project", status.Project}}
	for _, m := range serviceMetrics {
		e.writePerService(m.metricType, m.name, m.help, status, func(l labels, s api.ServiceStatus) { e.writeSample(l, m.value(s)) })
	}
	e.writePerService(typeGauge, "state", "1 for the service's current state, 0 for all other states.", status, e.writeStates)
	e.writePerService(typeCounter, "restarts_total", "Tunnels opened after the first one, by the reason that the previous one ended.", status, e.writeRestarts)
	e.writePerService(typeCounter, "probe_total", "Health checks, by result.", status, e.writeProbeResults)
	e.writePerService(typeHistogram, "probe_duration_seconds", "Duration of health checks.", status, e.writeProbeDurations)
	e.writeLeases(project, status.Leases)
	if status.Supervisor != nil {
		e.writeSupervisor(project, status.Supervisor)
	}
	_, err := w.Write(e.Bytes())
	return err
}

// writePerService writes a family with the samples that write adds for each service. A family without a sample is omitted.
func (e *exposition) writePerService(metricType, name, help string, status api.Status, write func(labels, api.ServiceStatus)) {
	start := e.Len()
	e.startFamily(metricType, name, help)
	headerEnd := e.Len()
	for _, s := range status.Services {
		write(labels{{"project", status.Project}, {"service", s.Name}}, s)
	}
	if e.Len() == headerEnd {
		e.Truncate(start)
	}
}

func (e *exposition) writeStates(l labels, s api.ServiceStatus) {
	l = l.with("technology", s.Technology)
	for _, state := range allStates {
		e.writeSample(l.with("state", string(state)), boolToFloat(s.State == state))
	}
}

// writeRestarts writes restarts by reason; those without a known reason count as "other".
func (e *exposition) writeRestarts(l labels, s api.ServiceStatus) {
	other := uint64(max(s.Restarts, 0))
	for _, reason := range slices.Sorted(maps.Keys(s.RestartReasons)) {
		n := s.RestartReasons[reason]
		other -= min(other, n)
		if reason != "other" {
			e.writeSample(l.with("reason", reason), float64(n))
		}
	}
	e.writeSample(l.with("reason", "other"), float64(other+s.RestartReasons["other"]))
}

func (e *exposition) writeProbeResults(l labels, s api.ServiceStatus) {
	for _, result := range slices.Sorted(maps.Keys(s.Health.Results)) {
		e.writeSample(l.with("result", result), float64(s.Health.Results[result]))
	}
}

func (e *exposition) writeProbeDurations(l labels, s api.ServiceStatus) {
	if h := s.Health.Latencies; h != nil && len(h.Counts) == len(h.Bounds)+1 {
		e.writeHistogram(l.with("check", s.Health.Check), h)
	}
}

func (e *exposition) writeLeases(project labels, leases []api.Lease) {
	e.startFamily(typeGauge, "leases", "Leases that keep the supervisor running, by kind.")
	for _, kind := range []string{api.ShellLease, api.ExecLease, api.ProcessLease, api.StartLease} {
		n := 0
		for _, lease := range leases {
			if lease.Kind == kind {
				n++
			}
		}
		e.writeSample(project.with("kind", kind), float64(n))
	}
}

func (e *exposition) writeSupervisor(project labels, s *api.SupervisorStatus) {
	e.startFamily(typeGauge, "info", "Version of the supervisor.")
	e.writeSample(project.with("version", s.Version), 1)
	e.startFamily(typeGauge, "supervisor_start_time_seconds", "Start time of the supervisor in seconds since the Unix epoch.")
	e.writeSample(project, float64(s.Since.UnixMilli())/1000)
	if s.Memory > 0 {
		e.startFamily(typeGauge, "supervisor_resident_memory_bytes", "Resident memory of the supervisor.")
		e.writeSample(project, float64(s.Memory))
	}
}

func boolToFloat(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
