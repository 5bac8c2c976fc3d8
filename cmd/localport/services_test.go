package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/testdata/ports"
)

// Also before the first status was received: a status without services says of none that it is not ready.
func TestWaitReady_InterruptedWaitIsAnError(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	running := client.Client{Socket: filepath.Join(t.TempDir(), "none.sock")}
	if _, err := (commandProject{}).waitReady(ctx, output.NewWriter(io.Discard), running, []string{"db"}, time.Minute); !errors.Is(err, errInterrupted) {
		t.Errorf("an interrupted wait returns %v", err)
	}
}

func TestStart_KeepsServicesRunningWithoutAShellUntilStop(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	upstream := serve(t, "127.0.0.1:0")
	root := w.allowedProject("linger = 0.1\n" + tcpConfig("one", `"auto"`, upstream) + tcpConfig("two", `"auto"`, upstream) + "tags = [\"x\"]\n")
	out := w.mustRun(root, "start", "two")
	if strings.Contains(out, "one") || !strings.Contains(out, "healthy") {
		t.Errorf("start two printed %q", out)
	}
	if one, two := w.service(root, "one"), w.service(root, "two"); one.State != forwarder.Stopped || two.State != forwarder.Healthy {
		t.Errorf("one is %s, two is %s", one.State, two.State)
	}
	sh := w.shell("bash", root)
	if env := sh.Environ(); hasVariable(env, "ONE_PORT") || !hasVariable(env, "TWO_PORT") {
		t.Errorf("a shell has ONE_PORT=%q TWO_PORT=%q", env["ONE_PORT"], env["TWO_PORT"])
	}
	w.mustRun(root, "start", "one")
	sh.Run("true")
	if env := sh.Environ(); !hasVariable(env, "ONE_PORT") {
		t.Error("the shell did not get the variables of a service that was started")
	}
	w.mustRun(root, "stop", "--tag", "x")
	sh.Run("true")
	if env := sh.Environ(); hasVariable(env, "TWO_PORT") {
		t.Error("the shell kept the variables of a service that was stopped")
	}
	supervisor := w.supervisor(root)
	sh.Exit("exit")
	if !supervisor.IsAlive() {
		t.Error("the start lease ended with the shell")
	}
	w.mustRun(root, "stop")
	w.waitExit(supervisor)
	w.checkNothingLeft(root)
}

func TestStop_IsKeptByPromptsAndUndoneByEntering(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnv(t)
		root := w.allowedProject(tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
		sh := w.shell(kind, root)
		w.mustRun(root, "stop", "--all")
		sh.Run("true")
		sh.Run("cd .")
		if state := w.state(root); state.Supervisor != nil {
			t.Error("a prompt started a stopped project")
		}
		if env := sh.Environ(); hasVariable(env, "WEB_PORT") {
			t.Error("WEB_PORT is still set in a stopped project")
		}
		sh.Run("cd /")
		sh.Run("cd " + root)
		w.supervisor(root)
	}, otherShells...)
}

func TestRestart_OfAStoppedProjectStartsIt(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject("linger = 0.001\n" + commandConfig(t, "web", `"auto"`))
	w.mustRun(root, "restart")
	supervisor := w.supervisor(root)
	if leases := w.state(root).Leases; len(leases) != 1 || leases[0].Kind != lockstate.StartLease {
		t.Errorf("leases: %+v", leases)
	}
	w.waitKeeper(root)
	before := findChildren(t, supervisor.PID)
	w.mustRun(root, "restart", "web")
	if after := findChildren(t, supervisor.PID); len(before) != 1 || len(after) != 1 || before[0] == after[0] {
		t.Errorf("before the restart %v ran, after it %v", before, after)
	}
}

func TestUnknownName_SuggestsTheNearest(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	upstream := serve(t, "127.0.0.1:0")
	root := w.allowedProject(tcpConfig("postgres", `"auto"`, upstream) + "tags = [\"database\"]\n")
	for _, running := range []bool{false, true} {
		if running {
			w.mustRun(root, "start")
		}
		for _, args := range [][]string{
			{"start", "postgre"}, {"restart", "postgre"}, {"start", "--tag", "databse"}, {"port", "postgre"}, {"logs", "postgre"},
		} {
			o := w.localport(root, args...)
			if o.code != output.ExitFailed || !strings.Contains(o.stderr, "did you mean") {
				t.Errorf("%v (running: %v): exit %d, %q", args, running, o.code, o.stderr)
			}
		}
	}
	if o := w.localport(root, "stop", "postgre"); o.code != output.ExitFailed || !strings.Contains(o.stderr, `did you mean "postgres"?`) {
		t.Errorf("stop: exit %d, %q", o.code, o.stderr)
	}
}

func TestStart_FailsIfOneServiceFails(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("good", `"auto"`, serve(t, "127.0.0.1:0")) +
		"[services.bad]\ntechnology = \"command\"\nlocal_port = \"auto\"\ncommand = [\"no-such-program\", \"{port}\"]\n")
	o := w.localport(root, "start")
	if o.code != output.ExitFailed || !strings.Contains(o.stderr, `"bad"`) || strings.Contains(o.stderr, `"good"`) {
		t.Errorf("exit %d, %q", o.code, o.stderr)
	}
	if svc := w.service(root, "bad"); svc.State != forwarder.NeedsAttention || !strings.Contains(svc.LastError, "PATH") {
		t.Errorf("bad is %s: %q", svc.State, svc.LastError)
	}
}

// A command that waits ends at the first service that only a person can help, whatever the others are doing.
func TestStart_EndsWhenOneServiceNeedsAttention(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts and never answers the health check
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	root := w.allowedProject(tcpConfig("slow", `"auto"`, &server{port: silent.Addr().(*net.TCPAddr).Port}) +
		"[services.slow.health_check]\ntype = \"http\"\n" +
		"[services.bad]\ntechnology = \"command\"\nlocal_port = \"auto\"\ncommand = [\"no-such-program\", \"{port}\"]\n")
	for _, args := range [][]string{{"start"}, {"exec", "--wait", "10m", "--", "true"}} {
		o := w.localport(root, args...)
		if o.code == 0 || !strings.Contains(o.stderr, `"bad"`) || strings.Contains(o.stderr, `"slow"`) || strings.Contains(o.stderr, "still") {
			t.Errorf("%v: exit %d, %q", args, o.code, o.stderr)
		}
	}
}

// An optional service is started, and waited for only by a command that names it or needs it for another service.
func TestOptionalService_IsNotWaitedFor(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	missing := func(name string) string {
		return "[services." + name + "]\ntechnology = \"command\"\nlocal_port = \"auto\"\ncommand = [\"no-such-program\", \"{port}\"]\noptional = true\n"
	}
	root := w.allowedProject(tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")) + missing("cache") + missing("search") +
		"[services.shop]\ntechnology = \"tcp\"\nlocal_port = \"auto\"\nremote_port = 1\nconnection = { remote_host = \"127.0.0.1\" }\n" +
		"depends_on = [\"search\"]\nenabled = false\n")
	const line = `^localport: not waiting for optional services: cache \([a-z ]+\), search \([a-z ]+\)\n$`
	for _, c := range []struct {
		args  []string
		waits bool
		want  string // a pattern of stderr
	}{
		{args: []string{"start"}, want: line},
		{args: []string{"restart"}, want: line},
		{args: []string{"exec", "--", "true"}, want: line},
		{args: []string{"start", "web"}, want: "^$"},
		{args: []string{"start", "cache"}, waits: true, want: `"cache" needs attention`},
		{args: []string{"exec", "-s", "cache", "--", "true"}, waits: true, want: `"cache" needs attention`},
		{args: []string{"start", "shop"}, waits: true, want: `"search" needs attention`},
	} {
		o := w.localport(root, c.args...)
		if (o.code != 0) != c.waits || !regexp.MustCompile(c.want).MatchString(o.stderr) {
			t.Errorf("%v: exit %d, %q", c.args, o.code, o.stderr)
		}
	}
	if svc := w.service(root, "cache"); !svc.Optional || svc.State != forwarder.NeedsAttention {
		t.Errorf("cache: %+v", svc)
	}
	o := w.localport(root, "config", "validate")
	if o.code != 0 || !strings.Contains(o.stderr, "services.search.optional: has no effect") || strings.Contains(o.stderr, "services.cache.optional") {
		t.Errorf("config validate: exit %d, %q", o.code, o.stderr)
	}
}

func TestStatus_JSONHasTheSameFieldsRunningAndStopped(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	keys := func() []string {
		var document struct {
			Services []map[string]any `json:"services"`
		}
		text := w.mustRun(root, "status", "--json")
		if err := json.Unmarshal([]byte(text), &document); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		var names []string
		for _, name := range []string{
			"name", "state", "technology", "address", "port", "addresses", "target", "tags", "enabled", "held", "health",
			"since", "up_since", "restarts", "last_error", "connections", "log",
		} {
			if _, ok := document.Services[0][name]; ok {
				names = append(names, name)
			}
		}
		return names
	}
	down := keys()
	w.mustRun(root, "start")
	if up := keys(); len(up) != 17 || len(down) != 17 {
		t.Errorf("keys down: %v\nkeys up: %v", down, up)
	}
	if target := w.service(root, "web").Target; !strings.Contains(target, "127.0.0.1") {
		t.Errorf("target %q", target)
	}
}

func TestOutsideAProject_ErrorNamesTheDirectoriesTried(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	dir := filepath.Join(w.home, "a/b")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	o := w.localport(dir, "status")
	if o.code != output.ExitFailed || !strings.Contains(o.stderr, dir) || !strings.Contains(o.stderr, "hint:") {
		t.Errorf("exit %d, %q", o.code, o.stderr)
	}
	if o := w.localport(dir, "-C", "/no/such/dir", "status"); o.code != output.ExitFailed {
		t.Errorf("-C: exit %d, %q", o.code, o.stderr)
	}
	if o := w.localport(dir, "frobnicate"); o.code != output.ExitUsage {
		t.Errorf("an unknown command: exit %d, %q", o.code, o.stderr)
	}
}

func TestConfigFlag_NeedsTheSameApproval(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	w.writeFile(root, "other.toml", tcpConfig("other", `"auto"`, serve(t, "127.0.0.1:0")))
	other := filepath.Join(root, "other.toml")
	if o := w.localport(w.home, "-c", other, "start"); o.code != output.ExitNotAllowed {
		t.Errorf("before allow: exit %d", o.code)
	}
	w.mustRun(w.home, "-c", other, "allow")
	w.mustRun(w.home, "-c", other, "start")
	if out := w.mustRun(w.home, "-c", other, "status"); !strings.Contains(out, "other") || strings.Contains(out, "web") {
		t.Errorf("status of the other config: %s", out)
	}
	w.mustRun(w.home, "-c", other, "stop")
}

func TestEnv_StartsNothing(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	root := w.allowedProject(tcpConfig("web", port, serve(t, "127.0.0.1:0")) + "[env]\nURL = \"it's ${web.addr}\"\n")
	for form, want := range map[string]string{
		"sh":     `export URL='it'\''s 127.0.0.1:%d'`,
		"fish":   `set -gx URL`,
		"json":   `"URL": "it's 127.0.0.1:%d"`,
		"dotenv": `URL="it's 127.0.0.1:%d"`,
	} {
		if strings.Contains(want, "%d") {
			want = fmt.Sprintf(want, port)
		}
		if out := w.mustRun(root, "env", "--format", form); !strings.Contains(out, want) {
			t.Errorf("%s: %q, want %q in it", form, out, want)
		}
	}
	if state := w.state(root); state.Supervisor != nil {
		t.Error("env started a supervisor")
	}
}

func TestSecrets_AppearNowhere(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	const secret = "correct-horse-battery"
	root := w.project("[defaults]\nconnect_timeout = 1\n" + commandConfig(t, "web", `"auto"`) +
		"[services.broken]\ntechnology = \"command\"\nlocal_port = \"auto\"\ncommand = [\"sh\", \"-c\", \"echo $SECRET >&2; exit 3 # {port}\"]\n")
	w.writeFile(root, ".env", "SECRET="+secret+"\n")
	w.mustRun(root, "allow")
	w.localport(root, "start", "--no-wait")
	eventually(t, "the program has printed its line", func() bool { return strings.Contains(w.mustRun(root, "logs", "web"), "listening") })
	eventually(t, "the service broken has failed", func() bool { return w.service(root, "broken").LastError != "" })
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"logs"}, {"logs", "supervisor"}} {
		if o := w.localport(root, args...); strings.Contains(o.stdout+o.stderr, secret) {
			t.Errorf("localport %v shows the secret: %s", args, o.stdout)
		}
	}
	err := filepath.Walk(filepath.Join(w.home, "state"), func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		if info.Mode()&os.ModeSymlink != 0 { // its target is text
			target, err := os.Readlink(path)
			if strings.Contains(target, secret) {
				t.Errorf("%s holds the secret", path)
			}
			return err
		}
		data, err := os.ReadFile(path)
		if strings.Contains(string(data), secret) {
			t.Errorf("%s holds the secret", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDemo_LeavesNothingBehind(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	before, _ := filepath.Glob("/tmp/localport-demo-*")
	out := w.mustRun(w.home, "demo")
	for _, want := range []string{"hello from the server", "1 waiting", "healthy", "nothing is left behind"} {
		if !strings.Contains(out, want) {
			t.Errorf("the demo did not show %q:\n%s", want, out)
		}
	}
	after, _ := filepath.Glob("/tmp/localport-demo-*")
	if len(after) > len(before) {
		t.Errorf("left behind: %v", after)
	}
}

func TestState_CorruptFileLosesNoLease(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject("linger = 0.1\n" + tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	first := w.shell("bash", root)
	supervisor, port := w.supervisor(root), first.Environ()["WEB_PORT"]
	w.waitKeeper(root) // after that, the supervisor writes nothing
	paths, err := filepath.Glob(filepath.Join(w.home, "state/localport/projects/*/state.json"))
	if err != nil || len(paths) != 1 {
		t.Fatal(paths, err)
	}
	if err := os.WriteFile(paths[0], []byte(`{"version":1,"lea`), 0o600); err != nil {
		t.Fatal(err)
	}
	second := w.shell("zsh", root)
	// Either the shell or the supervisor finds it first, and reports it.
	if out := second.Screen() + w.mustRun(root, "logs", "supervisor"); !strings.Contains(out, "is unusable") {
		t.Errorf("the corrupt state was not reported: %q", out)
	}
	eventually(t, "both leases are there", func() bool { return len(w.state(root).Leases) == 2 })
	if w.supervisor(root) != supervisor || second.Environ()["WEB_PORT"] != port {
		t.Error("the supervisor or the port has changed")
	}
	second.Exit("exit")
	first.Exit("exit")
	w.waitExit(supervisor)
}

// sessionID returns the session of a process.
func sessionID(t *testing.T, pid int) int {
	t.Helper()
	id, err := unix.Getsid(pid)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestSupervisor_InheritsNoDescriptors(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	cmd := w.command(root, "start", "--no-wait")
	cmd.ExtraFiles = []*os.File{writer, writer, writer}
	if o := w.run(cmd); o.code != 0 {
		t.Fatalf("exit %d, %q", o.code, o.stderr)
	}
	writer.Close()
	if pid := w.supervisor(root).PID; sessionID(t, pid) != pid {
		t.Errorf("the supervisor %d is in the session %d, not in one of its own", pid, sessionID(t, pid))
	}
	if err := reader.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the supervisor has inherited a descriptor: %v", err)
	}
}
