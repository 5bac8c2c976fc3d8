package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/testdata/ports"
)

func TestStatus_ExitCodeSaysWhetherServicesAreReady(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	upstream := serve(t, "127.0.0.1:0")
	healthyFile := filepath.Join(w.home, "healthy")
	w.writeFile(w.home, "healthy", "")
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), upstream) +
		fmt.Sprintf("health_check = { type = \"command\", command = [\"test\", \"-e\", %q], interval = \"50ms\", failure_threshold = 1 }\n", healthyFile) +
		tcpConfig("lazy", ports.FreePort(t), upstream) + "start = \"on-demand\"\n" +
		tcpConfig("off", ports.FreePort(t), upstream) + "enabled = false\n")
	check := func(want int, args ...string) {
		t.Helper()
		o := w.localport(root, append([]string{"status", "--exit-code"}, args...)...)
		if o.code != want || o.stderr != "" || !strings.Contains(o.stdout, "web") && len(args) == 0 {
			t.Errorf("%q: exit %d, want %d\n%s%s", args, o.code, want, o.stdout, o.stderr)
		}
	}
	check(1) // stopped
	w.mustRun(root, "start")
	check(0)
	check(0, "web", "lazy")
	check(1, "off")
	if err := os.Remove(healthyFile); err != nil {
		t.Fatal(err)
	}
	eventually(t, "web is unhealthy", func() bool { return !w.service(root, "web").IsReady() })
	check(1)
	check(1, "web", "--json")
	check(0, "lazy")
	if o := w.localport(root, "status", "nothing"); o.code != 1 || !strings.Contains(o.stderr, "unknown service") {
		t.Errorf("an unknown service: exit %d, %s", o.code, o.stderr)
	}
	for _, args := range [][]string{{"--exit-code", "-w"}, {"--all", "web"}, {"--all", "-w"}, {"-i", "never"}, {"-i", "0"}} {
		if o := w.localport(root, append([]string{"status"}, args...)...); o.code != 2 {
			t.Errorf("%q: exit %d", args, o.code)
		}
	}
}

func TestStatus_OfAServiceIsItsWholeStory(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	upstream, port := serve(t, "127.0.0.1:0"), ports.FreePort(t)
	root := w.allowedProject(tcpConfig("web", port, upstream) + "tags = [\"one\", \"two\"]\ndescription = \"the web\"\ndepends_on = [\"db\"]\n" +
		tcpConfig("db", ports.FreePort(t), upstream))
	w.mustRun(root, "start")
	text := w.mustRun(root, "status", "web")
	for _, want := range []string{
		"service       web\n", "description   the web\n", "state         healthy for ", "address       127.0.0.1:" + fmt.Sprint(port), "target        tcp 127.0.0.1:",
		"depends on    db\n", "tags          one, two\n", "health check  tcp, last ", "restarts      0\n", "connections   0 open", "log           /", "last events   ", "starting → healthy",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing:\n%s", want, text)
		}
	}
	if lines := strings.Count(text, "\n"); lines > 24 {
		t.Errorf("%d lines do not fit on one screen:\n%s", lines, text)
	}
	var status api.Status
	if err := json.Unmarshal([]byte(w.mustRun(root, "status", "--json", "web")), &status); err != nil || len(status.Services) != 1 || status.Services[0].Name != "web" {
		t.Errorf("%+v, %v", status.Services, err)
	}
	w.mustRun(root, "stop")
	if text := w.mustRun(root, "status", "web"); !strings.Contains(text, "state         stopped\n") {
		t.Errorf("of a stopped project it prints\n%s", text)
	}
}
