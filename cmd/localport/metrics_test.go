package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/cmd/localport/internal/version"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/testdata/ports"
)

// metrics returns the lines of `localport metrics`, and fails the test if Prometheus's linter reports a problem.
func (w *testEnv) metrics(root string) []string {
	w.t.Helper()
	text := w.mustRun(root, "metrics")
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil || len(problems) > 0 {
		w.t.Errorf("%v, %v in\n%s", problems, err, text)
	}
	return strings.Split(text, "\n")
}

func TestMetrics_CountBytesAndConnections(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	root := w.allowedProject(tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	eventually(t, "it is healthy", func() bool { return w.service(root, "web").State == forwarder.Healthy })
	answer, err := ask(fmt.Sprintf("127.0.0.1:%d", port), "you")
	if err != nil {
		t.Fatal(err)
	}
	labels := fmt.Sprintf("{project=%q,service=\"web\"", root)
	eventually(t, "the connection is counted as closed", func() bool {
		return slices.Contains(w.metrics(root), "localport_connections_open"+labels+"} 0")
	})
	lines := w.metrics(root)
	for _, want := range []string{
		"localport_up" + labels + "} 1",
		"localport_state" + labels + `,technology="tcp",state="healthy"} 1`,
		"localport_connections_total" + labels + "} 1",
		"localport_received_bytes_total" + labels + "} 4",
		"localport_sent_bytes_total" + labels + fmt.Sprintf("} %d", len(answer)),
		fmt.Sprintf("localport_leases{project=%q,kind=\"start\"} 1", root),
		fmt.Sprintf("localport_info{project=%q,version=%q} 1", root, version.Own()),
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("missing %s in\n%s", want, strings.Join(lines, "\n"))
		}
	}
}

func TestMetrics_OfAStoppedProjectReportItStopped(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.project(tcpConfig("web", 1, serve(t, "127.0.0.1:0")))
	want := fmt.Sprintf("localport_up{project=%q,service=\"web\"} 0", root)
	if lines := w.metrics(root); !slices.Contains(lines, want) {
		t.Errorf("missing %s in\n%s", want, strings.Join(lines, "\n"))
	}
	if len(w.processes()) > 0 {
		t.Error("metrics started a process")
	}
}

func TestMetrics_OutsideAProjectAreAnError(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	if o := w.localport(w.home, "metrics"); o.code != output.ExitFailed || o.stdout != "" || !strings.Contains(o.stderr, ".localport.toml") {
		t.Errorf("exit %d, %q, %q", o.code, o.stdout, o.stderr)
	}
}
