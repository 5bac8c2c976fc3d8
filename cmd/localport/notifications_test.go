package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/shellpty"
)

// unreliableService returns a service that is healthy while a file exists, which setHealthy creates and removes.
func (w *testEnv) unreliableService(name string) (config string, setHealthy func(bool)) {
	path := filepath.Join(w.home, name+".healthy")
	setHealthy = func(isHealthy bool) {
		if !isHealthy {
			os.Remove(path)
		} else if err := os.WriteFile(path, nil, 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	setHealthy(true)
	return tcpConfig(name, ports.FreePort(w.t), serve(w.t, "127.0.0.1:0")) + fmt.Sprintf(
		"health_check = { type = \"command\", command = [\"test\", \"-e\", %q], interval = \"50ms\", failure_threshold = 2 }\n", path), setHealthy
}

func TestPrompt_ReportsFailureAndRecoveryOncePerShell(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnv(t)
		config, setHealthy := w.unreliableService("db")
		root := w.allowedProject(config)
		first, second := w.shell(kind, root), w.shell(kind, root)
		eventually(t, "it is healthy", func() bool { return w.service(root, "db").State == forwarder.Healthy })
		waitEvents := func(kind eventlog.Kind, n int) {
			t.Helper()
			eventually(t, fmt.Sprint(n, " events of kind ", kind), func() bool {
				events := w.events(root, kind)
				return len(events) == n && w.promptLineNumber() >= events[n-1].PromptLine // the line is written after the event
			})
		}
		for round := range 2 {
			setHealthy(false)
			waitEvents(eventlog.ServiceFailed, round+1)
			for _, sh := range []*shellpty.Shell{first, second} {
				printed := twoPrompts(sh)
				if n := strings.Count(printed, "localport: db is unhealthy: test: exit status 1"); n != 1 {
					t.Errorf("the failure was printed %d times:\n%s", n, printed)
				}
			}
			setHealthy(true)
			waitEvents(eventlog.ServiceRecovered, round+1)
			if printed := twoPrompts(first); strings.Count(printed, "localport: db recovered") != 1 {
				t.Errorf("after it recovered:\n%s", printed)
			}
			second.Run("true")
		}
		laterShell := w.shell(kind, root)
		if printed := twoPrompts(laterShell); strings.Contains(printed, "recovered") {
			t.Errorf("a shell started later printed earlier events:\n%s", printed)
		}
	}, otherShells...)
}

// promptLineNumber returns the number in the only project's prompt line.
func (w *testEnv) promptLineNumber() (n uint64) {
	paths, _ := filepath.Glob(filepath.Join(w.home, "state/localport/projects/*/prompt"))
	for _, path := range paths {
		if data, err := os.ReadFile(path); err == nil {
			_, _ = fmt.Sscan(string(data), &n)
		}
	}
	return n
}

// twoPrompts returns what a shell prints at its next two prompts.
func twoPrompts(sh *shellpty.Shell) string {
	sh.Run("true")
	first := sh.Screen()
	sh.Run("true")
	return first + sh.Screen()
}

// events returns the project's events of a kind.
func (w *testEnv) events(root string, kind eventlog.Kind) []eventlog.Event {
	w.t.Helper()
	var found []eventlog.Event
	for line := range strings.Lines(w.mustRun(root, "events", "--json")) {
		var event eventlog.Event
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			w.t.Fatal(err)
		}
		if event.Kind == kind {
			found = append(found, event)
		}
	}
	return found
}

func TestNotify_RunsTheUsersProgramOnFailure(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	notices := filepath.Join(w.home, "notices")
	w.writeUserConfig(fmt.Sprintf("[notify]\ncommand = [\"sh\", \"-c\", \"echo $LOCALPORT_EVENT $1 $LOCALPORT_REASON >>%s\", \"sh\", \"{service}\"]\n", notices))
	config, setHealthy := w.unreliableService("db")
	root := w.allowedProject(config)
	w.mustRun(root, "start")
	setHealthy(false)
	eventually(t, "the program has run", func() bool {
		data, _ := os.ReadFile(notices)
		return strings.Contains(string(data), "failed db test: exit status 1\n")
	})
}

func TestNotify_TellsTheEndAndAFailureAtOnce(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	notices := filepath.Join(w.home, "notices")
	w.writeUserConfig(fmt.Sprintf(`[notify]
command = ["sh", "-c", 'echo "$LOCALPORT_EVENT {service}" >>%s']
on = ["state", "failed", "started", "ended"]
`, notices))
	config, setHealthy := w.unreliableService("db")
	root := w.allowedProject(config)
	countOf := func(line string) int {
		data, _ := os.ReadFile(notices)
		return strings.Count(string(data), line+"\n")
	}
	for round := range 3 {
		setHealthy(true)
		w.mustRun(root, "start")
		eventually(t, "the start is told", func() bool { return countOf("started ") == round+1 })
		setHealthy(false)
		eventually(t, "the failure is told", func() bool { return countOf("failed db") == round+1 })
		w.mustRun(root, "stop")
		eventually(t, "the end is told", func() bool { return countOf("ended ") == round+1 })
	}
}

func TestMetrics_AreServedOnTheConfiguredPort(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	config, setHealthy := w.unreliableService("db")
	root := w.allowedProject(fmt.Sprintf("metrics_port = %d\n", port) + config)
	w.mustRun(root, "start")
	scrape := func() string {
		response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", port))
		if err != nil {
			return ""
		}
		defer response.Body.Close()
		data, _ := io.ReadAll(response.Body)
		return string(data)
	}
	setHealthy(false)
	eventually(t, "the metrics count failed checks", func() bool {
		text := scrape()
		return strings.Contains(text, `result="failed"`) && strings.Contains(text, `service="db"`) &&
			strings.Contains(text, "localport_supervisor_resident_memory_bytes")
	})
	http.DefaultClient.CloseIdleConnections()
	w.stopProject(root, fmt.Sprintf("127.0.0.1:%d", port))
}

func TestDaemon_ControlsTheSupervisor(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	root := w.allowedProject(tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	if o := w.localport(root, "daemon", "status"); o.code != output.ExitFailed || !strings.Contains(o.stderr, "not running") {
		t.Errorf("status of a stopped project: exit %d, %s", o.code, o.stderr)
	}
	if out := w.mustRun(root, "daemon", "start"); !strings.HasPrefix(out, "started: pid ") {
		t.Errorf("start printed %q", out)
	}
	old := w.supervisor(root)
	if out := w.mustRun(root, "daemon", "start"); !strings.HasPrefix(out, "already running: pid ") {
		t.Errorf("the second start printed %q", out)
	}
	conn := dial(t, addr)
	conn.exchangeLine("hi")
	c := startGreetingClients(clientInterval, addr)
	if out := w.mustRun(root, "daemon", "restart"); !strings.HasPrefix(out, "restarted: pid ") {
		t.Errorf("restart printed %q", out)
	}
	if refused, failed := countRefused(c.stop(), c.startTime); refused > 0 || failed > 0 {
		t.Errorf("during the restart %d clients were refused, %d failed", refused, failed)
	}
	if w.supervisor(root) == old {
		t.Error("restart did not replace the supervisor")
	}
	if got := conn.exchangeLine("still here"); got != "hello still here\n" {
		t.Errorf("the established connection answers %q", got)
	}
	w.waitKeeper(root)
	out := w.mustRun(root, "daemon", "status")
	for _, want := range []string{
		fmt.Sprint("pid       ", w.supervisor(root).PID), "version", "uptime", "socket", "log ", "memory", "keeper", "used by   \"localport start\"", "start for",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("status does not print %q:\n%s", want, out)
		}
	}
	var status struct {
		PID    int   `json:"pid"`
		Memory int   `json:"memory"`
		Leases []any `json:"leases"`
	}
	if err := json.Unmarshal([]byte(w.mustRun(root, "daemon", "status", "--json")), &status); err != nil || status.PID == 0 || len(status.Leases) != 1 {
		t.Errorf("as JSON: %+v, %v", status, err)
	}
	sh := w.shell("bash", root)
	conn.conn.Close()
	w.mustRun(root, "daemon", "stop")
	sh.Run("true")
	if state := w.state(root); state.Supervisor != nil {
		t.Error("a prompt started a stopped project")
	}
	sh.Run("cd /")
	sh.Exit("exit")
	w.stopProject(root, addr)
}

func TestDependencies_StartBeforeAndStopAfter(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	web, port := ports.FreePort(t), ports.FreePort(t)
	root := w.allowedProject(
		commandConfig(t, "web", web) + "depends_on = [\"bastion\"]\nenabled = false\n" +
			commandConfig(t, "bastion", port) + "enabled = false\n" +
			commandConfig(t, "other", ports.FreePort(t)) + "enabled = false\n")
	w.mustRun(root, "start", "web")
	if svc := w.service(root, "bastion"); svc.State != forwarder.Healthy {
		t.Errorf("bastion is %s", svc.State)
	}
	if svc := w.service(root, "other"); svc.State != forwarder.Stopped {
		t.Errorf("other is %s", svc.State)
	}
	w.mustRun(root, "restart", "bastion")
	var order []string
	for _, event := range w.events(root, eventlog.StateChanged) {
		if event.To == string(forwarder.Healthy) {
			order = append(order, event.Service)
		}
	}
	if want := []string{"bastion", "web", "bastion", "web"}; !slices.Equal(order, want) {
		t.Errorf("they became healthy in the order %v, want %v", order, want)
	}
	o := w.localport(root, "stop", "bastion")
	if o.code != 0 || !strings.Contains(o.stderr, "web") {
		t.Errorf("stop: exit %d, %s", o.code, o.stderr)
	}
	order = nil
	for _, event := range w.events(root, eventlog.StateChanged) {
		if event.To == string(forwarder.Stopped) && event.From != "" && event.Service != "other" {
			order = append(order, event.Service)
		}
	}
	if want := []string{"web", "bastion"}; !slices.Equal(order, want) {
		t.Errorf("they stopped in the order %v, want %v", order, want)
	}
}

func TestHint_LeadsToTheErrorInTheSupervisorsLog(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	config := tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0"))
	root := w.allowedProject(config)
	w.mustRun(root, "start")
	w.writeFile(root, ".localport.toml", config+"description = \"${SET_NOWHERE}\"\n")
	o := w.localport(root, "allow")
	if o.code == 0 {
		t.Fatal("the supervisor uses an invalid config")
	}
	lines := bufio.NewScanner(strings.NewReader(o.stderr))
	id := ""
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "hint: localport logs supervisor --grep "); ok {
			id = rest
		}
	}
	if id == "" {
		t.Fatalf("no request is named:\n%s", o.stderr)
	}
	out := w.mustRun(root, "logs", "supervisor", "--grep", id, "--json")
	var line struct{ Level, Request, Message string }
	if err := json.Unmarshal([]byte(out), &line); err != nil || line.Request != id || line.Level != "error" || !strings.Contains(out, "SET_NOWHERE") {
		t.Errorf("the log has %q, %v", out, err)
	}
}

func TestPrompt_CountsWhatIsNotReadyOfManyServices(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	upstream := serve(t, "127.0.0.1:0")
	var config strings.Builder
	for i := range 8 {
		config.WriteString(tcpConfig(fmt.Sprint("web", i), ports.FreePort(t), upstream))
	}
	for i := range 2 {
		config.WriteString(tcpConfig(fmt.Sprint("taken", i), serve(t, "127.0.0.1:0").port, upstream))
	}
	root := w.allowedProject(config.String())
	w.localport(root, "start") // exit code 1: two services fail
	eventually(t, "eight services are ready and two have failed", func() bool {
		ready, failed := 0, 0
		for _, svc := range w.status(root).Services {
			switch {
			case svc.IsReady():
				ready++
			case svc.State == forwarder.Failed:
				failed++
			}
		}
		return ready == 8 && failed == 2
	})
	const want = "localport: shop: 10 services, 2 not ready: localport status"
	for _, kind := range slices.Concat(shells, otherShells) {
		sh := w.shell(kind, w.home)
		sh.Run("cd " + root)
		if out := strings.TrimSpace(sh.Output()); out != want {
			t.Errorf("entering with %s printed %q, want %q", kind, out, want)
		}
	}
	// What the line says to run names both.
	if out := w.mustRun(root, "status"); strings.Count(out, "failed") < 2 || !strings.Contains(out, "taken0") || !strings.Contains(out, "taken1") {
		t.Errorf("status: %s", out)
	}
}

func TestPrompt_PrintsOneLineForManyServices(t *testing.T) {
	t.Parallel()
	w := newPatientEnv(t)
	const n = 8
	_, setHealthy := w.unreliableService("all")
	var config strings.Builder
	for i := range n {
		name := fmt.Sprint("web", i)
		one, setOne := w.unreliableService(name)
		setOne(false)
		config.WriteString(strings.ReplaceAll(one, "/"+name, "/all"))
	}
	root := w.allowedProject(config.String())
	var open []*shellpty.Shell
	for _, kind := range shells {
		sh := w.shell(kind, w.home)
		sh.Run("cd " + root)
		if out := sh.Output(); strings.Count(out, "localport: ") != 1 || !strings.Contains(out, fmt.Sprint("shop: ", n, " services")) {
			t.Errorf("entering with %s printed %q", kind, out)
		}
		open = append(open, sh)
	}
	waitEvents := func(kind eventlog.Kind) {
		t.Helper()
		eventually(t, fmt.Sprint(n, " events of kind ", kind), func() bool {
			events := w.events(root, kind)
			return len(events) == n && w.promptLineNumber() >= events[n-1].PromptLine
		})
	}
	for i := range n {
		eventually(t, "all services are healthy", func() bool { return w.service(root, fmt.Sprint("web", i)).State == forwarder.Healthy })
	}
	// The first of two prompts may have a view from before the last events. Two of them are not many.
	checkPrompts := func(want string) {
		t.Helper()
		for _, sh := range open {
			if printed := twoPrompts(sh); strings.Count(printed, "localport: ") > 3 || !strings.Contains(printed, want) {
				t.Errorf("the prompts printed %q, want at most one line for many services, with %q", printed, want)
			}
		}
	}
	setHealthy(false)
	waitEvents(eventlog.ServiceFailed)
	checkPrompts(" services not ready: localport status")
	setHealthy(true)
	waitEvents(eventlog.ServiceRecovered)
	checkPrompts(" services recovered: localport status")
}
