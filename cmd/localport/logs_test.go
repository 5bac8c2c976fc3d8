package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/testdata/ports"
)

// projectWithLogs creates a stopped project with these logs, and returns their directory too.
func (w *testEnv) projectWithLogs(logs map[string]string) (root, dir string) {
	w.t.Helper()
	noUpstream := &server{port: 1}
	root = w.allowedProject(tcpConfig("db", 5432, noUpstream) + tcpConfig("api", 8080, noUpstream))
	dir = filepath.Dir(strings.TrimSpace(w.mustRun(root, "logs", "--path", "supervisor")))
	for name, text := range logs {
		w.writeFile(dir, name, text)
	}
	return root, dir
}

const (
	dbOld  = "2026-01-01T10:00:00.000Z INFO ab.1 Forwarding\n"
	dbLog  = "2026-01-02T10:00:00.000Z ERROR ab.2 error: lost connection to pod\n2026-01-02T10:00:02.000Z INFO ab.3 Forwarding\n"
	apiLog = "2026-01-02T10:00:01.000Z DEBUG ab.4 debug1: hello\n"
	ownLog = "time=2026-01-02T10:00:01.500Z level=WARN msg=state run=ab service=db request=r7 to=failed\npanic: oh\n\nmain.go:1\n"
)

func TestLogs_AreMergedFilteredAndThenCounted(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	w.env = append(w.env, "TZ=Asia/Kolkata")
	root, dir := w.projectWithLogs(map[string]string{"db.log.1": dbOld, "db.log": dbLog, "api.log": apiLog, "supervisor.log": ownLog})
	const (
		old   = "2026-01-01 15:30:00.000 +05:30 INFO ab.1 Forwarding"
		lost  = "2026-01-02 15:30:00.000 +05:30 ERROR ab.2 error: lost connection to pod"
		hello = "2026-01-02 15:30:01.000 +05:30 DEBUG ab.4 debug1: hello"
		again = "2026-01-02 15:30:02.000 +05:30 INFO ab.3 Forwarding"
		own   = "time=2026-01-02T15:30:01.500+05:30 level=WARN msg=state run=ab service=db request=r7 to=failed"
	)
	for _, c := range []struct {
		args string
		want []string
	}{
		{"", []string{"db: " + old, "db: " + lost, "api: " + hello, "db: " + again}},
		{"db", []string{old, lost, again}},
		{"db -n 1", []string{again}},
		{"db -n 0", nil},
		{"db -n 1 --level error", []string{lost}},
		{"--level warn", []string{"db: " + lost}},
		{"db --grep ab.[13]", []string{old, again}},
		{"db --since 2026-01-02T10:00:00Z --until 2026-01-02T10:00:01Z", []string{lost}},
		{"db --since 2026-01-02T15:30 --until 2026-01-02T15:30:01", []string{lost}},
		{"db --grep 15:30:02", []string{again}},
		{"db --since 1h", nil},
		{"supervisor --level error", []string{"panic: oh", "", "main.go:1"}},
		{"supervisor db --level warn", []string{
			"db: " + lost, "supervisor: " + own, "supervisor: panic: oh", "supervisor: ", "supervisor: main.go:1",
		}},
		{"--list", []string{"api", "db", "supervisor"}},
		{"--path db", []string{filepath.Join(dir, "db.log")}},
	} {
		got := strings.Split(w.mustRun(root, append([]string{"logs"}, strings.Fields(c.args)...)...), "\n")
		if got = got[:len(got)-1]; strings.Join(got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("logs %s:\n got %q\nwant %q", c.args, got, c.want)
		}
	}
}

func TestLogs_JSONIsOneObjectPerLine(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root, _ := w.projectWithLogs(map[string]string{"db.log": dbLog, "supervisor.log": ownLog})
	lines := strings.Split(w.mustRun(root, "logs", "--json", "db", "supervisor", "-n", "5"), "\n")
	for i, want := range []string{
		`{"time":"2026-01-02T10:00:01.500Z","level":"warn","service":"db","run":"ab","request":"r7","message":"state to=failed"}`,
		`{"time":"2026-01-02T10:00:01.500Z","level":"error","service":"db","run":"ab","request":"r7","message":"panic: oh"}`,
	} {
		if lines[i] != want {
			t.Errorf("line %d:\n got %s\nwant %s", i, lines[i], want)
		}
	}
	if last := `{"time":"2026-01-02T10:00:02.000Z","level":"info","service":"db","run":"ab.3","request":"","message":"Forwarding"}`; lines[4] != last {
		t.Errorf("the last line is %s", lines[4])
	}
}

func TestLogs_InvalidFlagsAreUsageErrors(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root, _ := w.projectWithLogs(map[string]string{"db.log": dbLog, "gone.log": dbLog})
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"logs supervisr", output.ExitFailed, `did you mean "supervisor"?`},
		{"logs apy", output.ExitFailed, `did you mean "api"?`},
		{"events apy", output.ExitFailed, `did you mean "api"?`},
		{"logs --grep [", output.ExitUsage, "--grep"},
		{"logs --since yesterday", output.ExitUsage, "an age (10m, 7d)"},
		{"logs --level loud", output.ExitUsage, "debug"},
		{"logs -f --until 1m", output.ExitUsage, "--until and --follow exclude each other"},
	} {
		if o := w.localport(root, strings.Fields(c.args)...); o.code != c.code || !strings.Contains(o.stderr, c.want) {
			t.Errorf("%s: exit %d, %s", c.args, o.code, o.stderr)
		}
	}
	for _, args := range []string{"logs gone", "logs api", "events gone"} {
		w.mustRun(root, strings.Fields(args)...)
	}
}

// followingCommand is a running command that prints lines until it is interrupted.
type followingCommand struct {
	t     *testing.T
	cmd   *exec.Cmd
	out   io.ReadCloser
	lines *bufio.Reader
	err   strings.Builder
}

func (w *testEnv) startFollowing(t *testing.T, dir string, args ...string) *followingCommand {
	t.Helper()
	f := &followingCommand{t: t, cmd: w.command(dir, args...)}
	f.cmd.Stderr = &f.err
	var err error
	if f.out, err = f.cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(time.Minute, func() { _ = f.cmd.Process.Kill() })
	t.Cleanup(func() { limit.Stop() })
	f.lines = bufio.NewReader(f.out)
	return f
}

// nextLine waits for the next line that the command prints.
func (f *followingCommand) nextLine() string {
	f.t.Helper()
	line, err := f.lines.ReadString('\n')
	if err != nil {
		f.t.Fatalf("no more lines: %v, %s", err, f.err.String())
	}
	return strings.TrimSuffix(line, "\n")
}

// waitQuietExit waits until the command exits, and fails the test if it reports an error.
func (f *followingCommand) waitQuietExit() {
	f.t.Helper()
	if err := f.cmd.Wait(); err != nil || f.err.Len() > 0 {
		f.t.Errorf("the command ended with %v and printed %q", err, f.err.String())
	}
}

func TestLogs_FollowContinuesAfterRotationUntilCtrlC(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root, dir := w.projectWithLogs(map[string]string{"db.log": dbLog})
	f := w.startFollowing(t, root, "logs", "-f", "-n", "1", "--level", "info")
	if got := f.nextLine(); !strings.HasSuffix(got, "ab.3 Forwarding") || !strings.HasPrefix(got, "db: ") {
		t.Errorf("the first line is %q", got)
	}
	api := eventlog.NewFile(filepath.Join(dir, "api.log"), nil, eventlog.Limits{MaxSize: 100})
	defer api.Close()
	run := api.RunWriter("cd.1")
	for i := range 10 {
		fmt.Fprintf(run, "debug1: not this\nline %d\n", i)
		if got, want := f.nextLine(), fmt.Sprintf("INFO cd.1 line %d", i); !strings.HasPrefix(got, "api: ") || !strings.HasSuffix(got, want) {
			t.Fatalf("the next line is %q, want %q", got, want)
		}
	}
	if err := f.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	f.waitQuietExit()
}

func TestLogs_FollowReadsTheLogOfANewService(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root, dir := w.projectWithLogs(map[string]string{"db.log": dbLog})
	f := w.startFollowing(t, root, "logs", "-f", "-n", "1")
	f.nextLine()
	added := eventlog.NewFile(filepath.Join(dir, "cache.log"), nil, eventlog.Limits{})
	defer added.Close()
	fmt.Fprintln(added.RunWriter("cd.1"), "ready")
	if got := f.nextLine(); !strings.HasPrefix(got, "cache: ") || !strings.HasSuffix(got, "cd.1 ready") {
		t.Errorf("it printed %q", got)
	}
	if err := f.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	f.waitQuietExit()
}

func TestFollow_EndsSilentlyWhenTheReaderIsGone(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root, dir := w.projectWithLogs(map[string]string{"db.log": dbLog})
	record := eventlog.NewRecorder(dir, nil, eventlog.Limits{})
	defer record.Close()
	record.Append(eventlog.Event{Kind: eventlog.SupervisorStarted})
	for _, args := range []string{"logs -f", "events -f"} {
		f := w.startFollowing(t, root, strings.Fields(args)...)
		f.nextLine()
		f.out.Close()
		f.waitQuietExit()
	}
}

func TestEvents_AreLinesOrJSONObjects(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	w.env = append(w.env, "TZ=UTC")
	root, dir := w.projectWithLogs(nil)
	record := eventlog.NewRecorder(dir, nil, eventlog.Limits{})
	defer record.Close()
	at := time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)
	record.Append(eventlog.Event{Time: at, Kind: eventlog.SupervisorStarted})
	record.Append(eventlog.Event{Time: at.Add(time.Second), Kind: eventlog.StateChanged, Service: "db", From: "healthy", To: "restarting", Reason: "exit status 1"})
	record.Append(eventlog.Event{Time: at.Add(2 * time.Second), Kind: eventlog.ServiceFailed, Service: "api", To: "needs_attention", Reason: "Permission denied", Hint: "ssh-add", PromptLine: 7})
	const (
		started = "2026-01-02 10:00:00 +00:00  -  started"
		changed = "2026-01-02 10:00:01 +00:00  db  healthy → restarting: exit status 1"
		failed  = "2026-01-02 10:00:02 +00:00  api  failed (needs_attention): Permission denied: ssh-add"
	)
	for args, want := range map[string][]string{
		"":                             {started, changed, failed},
		"-n 1":                         {failed},
		"db":                           {changed},
		"--since 2026-01-02T10:00:01Z": {changed, failed},
		"--since 10m":                  nil,
	} {
		got := strings.TrimSuffix(w.mustRun(root, append([]string{"events"}, strings.Fields(args)...)...), "\n")
		if got != strings.Join(want, "\n") {
			t.Errorf("events %s:\n%s", args, got)
		}
	}
	var event eventlog.Event
	if err := json.Unmarshal([]byte(w.mustRun(root, "events", "--json", "-n", "1")), &event); err != nil || event.PromptLine != 7 || event.Hint != "ssh-add" {
		t.Errorf("with --json: %+v, %v", event, err)
	}

	f := w.startFollowing(t, root, "events", "-f", "-n", "1", "api")
	if got := f.nextLine(); got != failed {
		t.Errorf("events -f begins with %q", got)
	}
	record.Append(eventlog.Event{Kind: eventlog.ServiceRecovered, Service: "db"})
	record.Append(eventlog.Event{Kind: eventlog.ServiceRecovered, Service: "api", To: "healthy"})
	if got := f.nextLine(); !strings.HasSuffix(got, "  api  recovered (healthy)") {
		t.Errorf("events -f continues with %q", got)
	}
	if err := f.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	f.waitQuietExit()
}

func TestParseTime_ReadsAgesAndTimes(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.FixedZone("here", 3600))
	for text, want := range map[string]time.Time{
		"10m":                           now.Add(-10 * time.Minute),
		"90":                            now.Add(-90 * time.Second),
		"7d":                            now.Add(-7 * 24 * time.Hour),
		"2026-01-02T10:00:00Z":          time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC),
		"2026-01-02 10:00":              time.Date(2026, 1, 2, 10, 0, 0, 0, now.Location()),
		"2026-11-23 03:04:05 +02:00":    time.Date(2026, 11, 23, 1, 4, 5, 0, time.UTC),
		"2026-11-23 03:04:05.6 +02:00":  time.Date(2026, 11, 23, 1, 4, 5, 6e8, time.UTC),
		"2026-11-23T03:04:05.678+02:00": time.Date(2026, 11, 23, 1, 4, 5, 678e6, time.UTC),
		"2026-01-02":                    time.Date(2026, 1, 2, 0, 0, 0, 0, now.Location()),
		"03:04":                         time.Date(2026, 11, 23, 3, 4, 0, 0, now.Location()),
		"03:04:05":                      time.Date(2026, 11, 23, 3, 4, 5, 0, now.Location()),
	} {
		if got, err := parseTime(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q is %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "yesterday", "-10m", "0", "7x", "25:00"} {
		if got, err := parseTime(text, now); err == nil {
			t.Errorf("%q was parsed as %v", text, got)
		}
	}
}

func TestLogs_WithoutLinesSaySoOnATerminal(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	session := w.startOnTerminal(root, "logs", "web")
	if code := <-session.done; code != 0 || !strings.Contains(session.screen.String(), `localport: no lines; "localport why web" says what happened`) {
		t.Errorf("exit %d\n%s", code, session.screen.String())
	}
	if o := w.localport(root, "logs", "web"); o.code != 0 || o.stdout != "" || o.stderr != "" {
		t.Errorf("in a pipe: exit %d\n%s%s", o.code, o.stdout, o.stderr)
	}
}

func TestLogin_WithoutAnyLoginTriesAgain(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject("[services.proxy]\ntechnology = \"command\"\nlocal_port = \"auto\"\ncommand = [\"no-such-proxy\", \"{port}\"]\n")
	w.localport(root, "start")
	if o := w.localport(root, "login", "proxy"); o.code != 1 || !strings.HasPrefix(o.stderr, "localport: no login is configured for proxy; trying again\n") {
		t.Errorf("exit %d\n%s", o.code, o.stderr)
	}
}
