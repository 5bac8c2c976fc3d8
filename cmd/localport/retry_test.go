package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/testdata/ports"
)

// fixableProject creates a project whose service web fails at each attempt, and counts attempts, until there is a file named fixed.
func fixableProject(t *testing.T, w *testEnv) (root string, attempts func() int) {
	t.Helper()
	root = w.project(fmt.Sprintf("[services.web]\ntechnology = \"command\"\nlocal_port = %d\n"+
		"command = [\"sh\", \"run.sh\", \"{port}\"]\nrestart_policy = { enabled = false }\n", ports.FreePort(t)))
	w.writeFile(root, "run.sh", "[ -e fixed ] || { echo x >>attempts; echo not fixed >&2; exit 1; }\n"+
		fmt.Sprintf("exec /usr/bin/env -u%s %s=1 '%s' \"$1\"\n", mainVariable, upstreamVariable, ownExecutable(t)))
	w.mustRun(root, "allow")
	return root, func() int {
		data, _ := os.ReadFile(filepath.Join(root, "attempts"))
		return strings.Count(string(data), "x")
	}
}

func TestExec_RetriesRightAfterAFix(t *testing.T) {
	for _, args := range [][]string{{"exec", "--", "true"}, {"start"}, {"restart"}} {
		t.Run(args[0], func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t)
			root, attempts := fixableProject(t, w)
			if o := w.localport(root, "start"); o.code != output.ExitFailed || !strings.Contains(o.stderr, `service "web" failed`) {
				t.Fatalf("start: exit %d\n%s", o.code, o.stderr)
			}
			if n := attempts(); n != 1 {
				t.Errorf("the command that started the supervisor made %d attempts", n)
			}
			w.writeFile(root, "fixed", "")
			w.mustRun(root, args...)
			if state := w.service(root, "web").State; state != forwarder.Healthy {
				t.Errorf("web is %s", state)
			}
		})
	}
}

func TestEnv_NamesOmittedServices(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	upstream := serve(t, "127.0.0.1:0")
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), upstream) + tcpConfig("db", port, upstream) +
		tcpConfig("off", ports.FreePort(t), upstream) + "enabled = false\n")
	w.mustRun(root, "start", "web")
	if o := w.localport(root, "env"); o.code != 0 || strings.Contains(o.stdout, "DB_PORT") {
		t.Errorf("without db: exit %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	w.localport(root, "start", "db", "--no-wait")
	o := w.localport(root, "env", "--json")
	var variables map[string]string
	if err := json.Unmarshal([]byte(o.stdout), &variables); err != nil {
		t.Fatal(err)
	}
	if _, omitted := variables["DB_PORT"]; omitted || variables["WEB_PORT"] == "" {
		t.Errorf("env printed %v", variables)
	}
	want := `localport: no variables for service "db", which failed: `
	if o.code != output.ExitFailed || !strings.HasPrefix(o.stderr, want) || strings.Contains(o.stderr, `"off"`) {
		t.Errorf("exit %d\n%s, want %s", o.code, o.stderr, want)
	}
}

// A command that waits watches the status instead of polling it.
func TestWaitSettled_FollowsTheWatchEndpoint(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	w.mustRun(root, "--log-level", "debug", "start")
	w.mustRun(root, "restart")
	w.mustRun(root, "exec", "--", "true")
	log := w.mustRun(root, "logs", "supervisor")
	if !strings.Contains(log, "/v1/watch") || strings.Contains(log, "/v1/wait") {
		t.Errorf("the requests are\n%s", log)
	}
}
