package metrics

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// runningStatus is the status of a project that has every kind of metric.
func runningStatus() api.Status {
	var latencies Histogram
	for _, d := range []time.Duration{time.Millisecond, 3 * time.Millisecond, 30 * time.Millisecond, time.Minute} {
		latencies.Observe(d)
	}
	return api.Status{
		Project: "/home/you/shop", State: api.StateRunning,
		Leases: []api.Lease{{Kind: "shell"}, {Kind: "shell"}, {Kind: "start"}},
		Supervisor: &api.SupervisorStatus{
			Version: "0.5.0", Since: time.Unix(1_700_000_000, 500e6), Memory: 12 << 20, Socket: "/run/secret.sock",
		},
		Services: []api.ServiceStatus{
			{
				Name: "db", State: forwarder.Healthy, Technology: "kubectl", Restarts: 5, Target: "secret", LastError: "secret", Hint: "secret",
				Connections: api.ConnectionStats{
					Open: 1, Waiting: 2, Total: 30, Waited: 4, WaitTime: 1.5, Replays: 6, BytesIn: 7000, BytesOut: 80000,
				},
				RestartReasons: map[string]uint64{"ended": 2, "unhealthy": 1},
				Health:         api.Health{Check: "tcp", Latencies: latencies.Snapshot(), Results: map[string]uint64{"ok": 3, "timeout": 1}},
			},
			{Name: "api", State: forwarder.NeedsAttention, Technology: "ssh"},
		},
	}
}

func writeText(t testing.TB, status api.Status) string {
	t.Helper()
	var out bytes.Buffer
	if err := Write(&out, status); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func parseMetrics(t interface{ Fatal(...any) }, text string) map[string]*dto.MetricFamily {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err, "\n", text)
	}
	return families
}

func TestWrite_PassesPrometheusParserAndLinter(t *testing.T) {
	for name, status := range map[string]api.Status{"running": runningStatus(), "down": downStatus(), "empty": {Project: "/p"}} {
		problems, err := promlint.New(strings.NewReader(writeText(t, status))).Lint()
		if err != nil || len(problems) > 0 {
			t.Errorf("%s: %v, %v", name, problems, err)
		}
		parseMetrics(t, writeText(t, status))
	}
}

func downStatus() api.Status {
	return api.Status{Project: "/p", State: api.StateStopped, Services: []api.ServiceStatus{
		{Name: "db", State: forwarder.Stopped, Technology: "tcp", Health: api.Health{Check: "tcp"}},
	}}
}

func TestWrite_MetricsMatchTheStatus(t *testing.T) {
	lines := strings.Split(writeText(t, runningStatus()), "\n")
	db := `{project="/home/you/shop",service="db"`
	for _, want := range []string{
		"localport_up" + db + "} 1",
		`localport_up{project="/home/you/shop",service="api"} 0`,
		"localport_state" + db + `,technology="kubectl",state="healthy"} 1`,
		"localport_state" + db + `,technology="kubectl",state="failed"} 0`,
		`localport_state{project="/home/you/shop",service="api",technology="ssh",state="needs_attention"} 1`,
		"localport_connections_open" + db + "} 1",
		"localport_connections_waiting" + db + "} 2",
		"localport_connections_total" + db + "} 30",
		"localport_connections_waited_total" + db + "} 4",
		"localport_wait_seconds_total" + db + "} 1.5",
		"localport_replays_total" + db + "} 6",
		"localport_received_bytes_total" + db + "} 7000",
		"localport_sent_bytes_total" + db + "} 80000",
		"localport_restarts_total" + db + `,reason="ended"} 2`,
		"localport_restarts_total" + db + `,reason="unhealthy"} 1`,
		"localport_restarts_total" + db + `,reason="other"} 2`,
		"localport_probe_total" + db + `,result="ok"} 3`,
		"localport_probe_duration_seconds_bucket" + db + `,check="tcp",le="0.001"} 1`,
		"localport_probe_duration_seconds_bucket" + db + `,check="tcp",le="0.005"} 2`,
		"localport_probe_duration_seconds_bucket" + db + `,check="tcp",le="10"} 3`,
		"localport_probe_duration_seconds_bucket" + db + `,check="tcp",le="+Inf"} 4`,
		"localport_probe_duration_seconds_sum" + db + `,check="tcp"} 60.034`,
		"localport_probe_duration_seconds_count" + db + `,check="tcp"} 4`,
		`localport_leases{project="/home/you/shop",kind="shell"} 2`,
		`localport_leases{project="/home/you/shop",kind="exec"} 0`,
		`localport_info{project="/home/you/shop",version="0.5.0"} 1`,
		`localport_supervisor_start_time_seconds{project="/home/you/shop"} 1.7000000005e+09`,
		`localport_supervisor_resident_memory_bytes{project="/home/you/shop"} 1.2582912e+07`,
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("missing: %s", want)
		}
	}
	if strings.Contains(writeText(t, runningStatus()), "secret") {
		t.Error("the metrics contain an address, target or error text")
	}
}

func TestWrite_DownProjectShowsItsServicesAsDown(t *testing.T) {
	families := parseMetrics(t, writeText(t, downStatus()))
	if up := families["localport_up"]; up == nil || up.Metric[0].Gauge.GetValue() != 0 {
		t.Errorf("localport_up: %v", up)
	}
	for name := range families {
		if strings.HasPrefix(name, "localport_supervisor") || name == "localport_info" {
			t.Errorf("%s is written without a supervisor", name)
		}
	}
}

func TestWrite_EveryStateHasASample(t *testing.T) {
	for _, state := range allStates {
		status := downStatus()
		status.Services[0].State = state
		ones := 0.0
		for _, metric := range parseMetrics(t, writeText(t, status))["localport_state"].Metric {
			ones += metric.Gauge.GetValue()
		}
		if ones != 1 {
			t.Errorf("in state %s, %v samples are 1", state, ones)
		}
	}
}

func TestWrite_AnyTextRoundTripsAsALabel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.SampledFrom([]rune("\\\"\n\r\t{},= #é")))).Draw(t, "value")
		if rapid.Bool().Draw(t, "broken") {
			value += "\xff"
		}
		var out bytes.Buffer
		_ = Write(&out, api.Status{Project: value})
		got := parseMetrics(t, out.String())["localport_leases"].Metric[0].Label[0]
		if want := strings.ToValidUTF8(value, "\uFFFD"); got.GetValue() != want {
			t.Fatalf("%q became %q", value, got.GetValue())
		}
	})
}

func TestHistogram_CountsConcurrentObservations(t *testing.T) {
	var h Histogram
	var observers sync.WaitGroup
	for range 8 {
		observers.Go(func() {
			for i := range 1000 {
				h.Observe(time.Duration(i) * 20 * time.Millisecond)
				h.Snapshot()
			}
		})
	}
	observers.Wait()
	s := h.Snapshot()
	var total uint64
	for _, n := range s.Counts {
		total += n
	}
	if total != 8000 || s.Counts[0] != 8 || s.Counts[len(s.Counts)-1] != 8*499 {
		t.Errorf("%d in all: %v", total, s.Counts)
	}
	if s.Sum < 79919 || s.Sum > 79921 {
		t.Errorf("the sum is %v", s.Sum)
	}
}

func TestHistogram_ObserveAllocatesNothing(t *testing.T) {
	var h Histogram
	if n := testing.AllocsPerRun(100, func() { h.Observe(time.Second) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestResidentMemory_IsPlausible(t *testing.T) {
	if m := ResidentMemory(); m != 0 && (m < 1<<20 || m > 8<<30) {
		t.Errorf("%d bytes", m)
	}
}
