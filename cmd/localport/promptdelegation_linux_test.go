package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/localport-sh/localport/forwarder/promptapi"
	"github.com/localport-sh/localport/testdata/executable"
)

// delegationEnv is a user's environment with a release build of localport, and a copy of that. A supervisor evaluates the prompts of its own program
// only: what the copy prints, it evaluates itself.
type delegationEnv struct {
	releaseEnv
	copy string
	pid  string
}

func newDelegationEnv(t *testing.T) *delegationEnv {
	t.Helper()
	w := &delegationEnv{releaseEnv: newReleaseEnv(t), pid: strconv.Itoa(os.Getpid())}
	program, err := os.ReadFile(w.exe)
	if err != nil {
		t.Fatal(err)
	}
	w.copy = filepath.Join(t.TempDir(), "localport")
	if err := executable.WriteFile(w.copy, program, 0o755); err != nil {
		t.Fatal(err)
	}
	return w
}

// maxPackages is how many packages may be initialised before a prompt is sent to the supervisor: 20 are in Go 1.26, most of
// them of the runtime.
const maxPackages = 25

// export runs `localport export bash` of a program in a directory, with variables. isDelegated says whether the supervisor has evaluated the prompt:
// then most packages of the program were not initialised.
func (w *delegationEnv) export(program, dir string, env []string, args ...string) (o commandResult, isDelegated bool) {
	w.t.Helper()
	cmd := w.command(dir, append([]string{"export", "bash", "--pid", w.pid, "--saves", "--tools", "--retry", ""}, args...)...)
	cmd.Path, cmd.Args[0] = program, program
	cmd.Env = append(cmd.Env, append([]string{"GODEBUG=inittrace=1", "PWD=" + dir}, env...)...)
	o = w.run(cmd)
	var messages strings.Builder
	isDelegated = true
	packages := 0
	for line := range strings.Lines(o.stderr) {
		if strings.HasPrefix(line, "init ") && strings.Contains(line, " ms clock, ") {
			isDelegated = isDelegated && !strings.HasPrefix(line, "init github.com/localport-sh/localport/project ")
			packages++
			continue
		}
		messages.WriteString(line)
	}
	if isDelegated && packages > maxPackages {
		w.t.Errorf("%d packages were initialised:\n%s", packages, o.stderr)
	}
	o.stderr = messages.String()
	return o, isDelegated
}

// exportOnce runs an export of the program.
func (w *delegationEnv) exportOnce(dir string, env []string, args ...string) (o commandResult, isDelegated bool) {
	w.t.Helper()
	return w.export(w.exe, dir, env, args...)
}

// exportDelegated repeats an export until the supervisor has evaluated it, at most 20 times: on a busy machine it may not accept it in time, and the
// program evaluates it itself.
func (w *delegationEnv) exportDelegated(dir string, env []string, args ...string) (o commandResult, isDelegated bool) {
	w.t.Helper()
	for range 20 {
		if o, isDelegated = w.export(w.exe, dir, env, args...); isDelegated {
			break
		}
	}
	return o, isDelegated
}

var lineVariable = regexp.MustCompile(`__localport_line='\d+`)

// withoutLine removes the number of the project's line, which each prompt raises, and how long ago something was.
func withoutLine(o commandResult) commandResult {
	o.stdout = lineVariable.ReplaceAllString(o.stdout, "__localport_line='N")
	return o
}

// A running supervisor prints what the program itself would print.
func TestPromptDelegation_PrintsTheSame(t *testing.T) {
	t.Parallel()
	w := newDelegationEnv(t)
	backend := serve(t, "127.0.0.1:0")
	root := w.allowedProject("[env]\nURL = \"x${TOKEN}\"\nPATH = \"${PATH}:/of/project\"\n" + tcpConfig("web", `"auto"`, backend))
	other := w.allowedProject(tcpConfig("api", `"auto"`, backend))
	sub := filepath.Join(root, "sub dir")
	if err := os.Mkdir(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	w.mustRun(root, "start")
	w.mustRun(other, "start")
	token := []string{"TOKEN=it's"}
	entered, _ := w.export(w.copy, root, token)
	diff := regexp.MustCompile(`export LOCALPORT_DIFF='([^']*)'`).FindStringSubmatch(entered.stdout)
	line := regexp.MustCompile(`__localport_line='([^']*)'`).FindStringSubmatch(entered.stdout)
	if diff == nil || line == nil {
		t.Fatalf("entering prints %+v", entered)
	}
	inside := append([]string{"URL=xit's", "LOCALPORT_DIFF=" + diff[1]}, token...)
	at := []string{"--root", root, "--line", line[1]}
	for _, test := range []struct {
		name      string
		dir       string
		env       []string
		args      []string
		byProgram bool // an error is reported: the supervisor leaves that to the program
	}{
		{name: "enter", dir: root, env: token},
		{name: "enter below", dir: sub, env: token},
		{name: "again", dir: root, env: inside, args: at},
		{name: "a variable has changed", dir: root, env: append(inside, "TOKEN=b"), args: at},
		{name: "bytes that are not UTF-8", dir: root, env: append(inside, "TOKEN=\xff"), args: at},
		{name: "missing at cd", dir: root, args: []string{"--cd"}},
		{name: "missing", dir: root, byProgram: true},
		{name: "held", dir: root, env: token, args: []string{"--hold"}},
		{name: "leave", dir: w.home, env: inside, args: at},
		{name: "leave again", dir: w.home, env: inside, args: at},
		{name: "to another project", dir: other, env: inside, args: at},
		{name: "back", dir: root, env: token, args: []string{"--root", other, "--line", "1 2 3"}},
		{name: "interrupted before", dir: root, env: token, args: []string{"--unfinished", other + "\n" + sub + "\n"}},
		{name: "retry", dir: root, env: token, args: []string{"--retry", `{"left":["` + other + `"],"enter":true}`, "--limit=20s"}},
		{name: "no process", dir: root, env: token, args: []string{"--pid", "999999999"}, byProgram: true},
		{name: "unknown argument", dir: root, env: token, args: []string{"--nonsense"}, byProgram: true},
	} {
		export := w.exportDelegated
		if test.byProgram {
			export = w.exportOnce
		}
		got, isDelegated := export(test.dir, test.env, test.args...)
		want, isCopyDelegated := w.export(w.copy, test.dir, test.env, test.args...)
		if isDelegated == test.byProgram || isCopyDelegated {
			t.Errorf("%s: evaluated by the supervisor: %v; for a copy of the program: %v", test.name, isDelegated, isCopyDelegated)
		}
		if got, want := withoutLine(got), withoutLine(want); got != want {
			t.Errorf("%s: the supervisor prints\n%+v\nthe program\n%+v", test.name, got, want)
		}
	}
}

// Where anything differs, the client evaluates the prompt itself.
func TestPromptDelegation_NeedsTheSameEnvironment(t *testing.T) {
	t.Parallel()
	w := newDelegationEnv(t)
	root := w.allowedProject(tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	if _, isDelegated := w.export(w.exe, root, nil); isDelegated {
		t.Error("no supervisor was running")
	}
	w.mustRun(root, "start")
	elsewhere := t.TempDir()
	for _, test := range []struct {
		env  string
		want bool
	}{
		{"A=1", true},
		{"LOCALPORT_LIMIT=3s", true},
		{"LOCALPORT_LOG_LEVEL=debug", true},
		{"HOME=" + elsewhere, false},
		{"XDG_CONFIG_HOME=" + elsewhere, false},
		{"XDG_DATA_HOME=" + elsewhere, false},
		{"XDG_STATE_HOME=", false},
		{"XDG_RUNTIME_DIR=", false},
		{"PWD=/nowhere", true}, // it is not the current directory: os.Getwd does not use it
	} {
		export := w.exportDelegated
		if !test.want {
			export = w.exportOnce
		}
		if _, isDelegated := export(root, []string{test.env}); isDelegated != test.want {
			t.Errorf("with %s the supervisor evaluates: %v", test.env, isDelegated)
		}
	}
}

// A supervisor evaluates no prompt of another project: its client may be in a sandbox that cannot read the other project's files.
func TestPromptDelegation_IsForTheProjectOfTheSupervisor(t *testing.T) {
	t.Parallel()
	w := newDelegationEnv(t)
	root := w.allowedProject(tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	other := w.allowedProject("[env]\nSECRET = \"s3cret\"\n" + tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	w.mustRun(other, "start")
	executable, err := os.Stat(w.exe)
	if err != nil {
		t.Fatal(err)
	}
	stat := executable.Sys().(*syscall.Stat_t)
	ask := func(dir string) string {
		conn, err := net.Dial("unix", w.state(root).Supervisor.Socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		body := promptapi.Request{
			Executable: fmt.Sprintf("%d:%d:%d:%d.%d", stat.Dev, stat.Ino, stat.Size, stat.Mtim.Sec, stat.Mtim.Nsec),
			Dir:        dir, DirID: promptapi.DirID(dir), Args: []string{"bash", "--pid", w.pid, "--saves", "--tools", "--retry", ""}, Environment: w.env,
		}.Encode()
		if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s", promptapi.Path, len(body), body); err != nil {
			t.Fatal(err)
		}
		response, err := io.ReadAll(conn)
		if err != nil {
			t.Fatal(err)
		}
		return string(response)
	}
	if got := ask(root); !strings.Contains(got, "WEB_PORT") {
		t.Errorf("for its own project it answers %q", got)
	}
	if got := ask(other); strings.Contains(got, "s3cret") || strings.Contains(got, "SECRET") {
		t.Errorf("for another project it answers %q", got)
	}
}

// A program that was replaced at its path is another one, also if it has the same version.
func TestPromptDelegation_NeedsTheSameProgram(t *testing.T) {
	t.Parallel()
	w := newDelegationEnv(t)
	root := w.allowedProject(tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	if _, isDelegated := w.exportDelegated(root, nil); !isDelegated {
		t.Error("the supervisor does not evaluate")
	}
	if err := os.Rename(w.copy, w.exe); err != nil {
		t.Fatal(err)
	}
	if o, isDelegated := w.export(w.exe, root, nil); isDelegated || o.code != 0 || !strings.Contains(o.stdout, "WEB_PORT") {
		t.Errorf("evaluated by the supervisor: %v; %+v", isDelegated, o)
	}
	w.mustRun(root, "daemon", "restart")
	if _, isDelegated := w.exportDelegated(root, nil); !isDelegated {
		t.Error("the new supervisor does not evaluate")
	}
}

// What a prompt has to report is found by the program: a config that is not allowed, a stopped project, a supervisor that does not respond.
func TestPromptDelegation_ProgramReportsErrors(t *testing.T) {
	t.Parallel()
	w := newDelegationEnv(t)
	root := w.allowedProject(tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	supervisor := w.stopSupervisor(root)
	o, isDelegated := w.export(w.exe, root, []string{"LOCALPORT_LIMIT=2s"})
	if isDelegated || o.code != 1 || !strings.Contains(o.stderr, "did not answer within ") {
		t.Errorf("a stopped supervisor: %v, %+v", isDelegated, o)
	}
	if err := syscall.Kill(supervisor.PID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	w.writeFile(root, ".localport.toml", "port = 1\n")
	if o, isDelegated := w.export(w.exe, root, nil); isDelegated || o.code != 4 || !strings.Contains(o.stderr, ".localport.toml:1:1") {
		t.Errorf("a changed config: %v, %+v", isDelegated, o)
	}
	w.mustRun(root, "stop")
	if o, isDelegated := w.export(w.exe, root, nil, "--root", root); isDelegated || strings.Contains(o.stdout, "WEB_PORT") {
		t.Errorf("a stopped project: %v, %+v", isDelegated, o)
	}
}

// The supervisor keeps nothing of the prompts that it has evaluated.
func TestPromptDelegation_LeavesNothingOpen(t *testing.T) {
	t.Parallel()
	w := newDelegationEnv(t)
	root := w.allowedProject("[env]\nURL = \"${TOKEN}\"\n" + tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	w.waitKeeper(root)
	for range 5 {
		w.exportDelegated(root, []string{"TOKEN=1"}) // opens what stays open
	}
	fdDir := fmt.Sprintf("/proc/%d/fd", w.supervisor(root).PID)
	count := func() int {
		entries, err := os.ReadDir(fdDir)
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := count()
	for i := range 50 {
		if _, isDelegated := w.exportDelegated(root, []string{fmt.Sprintf("TOKEN=%d", i)}); !isDelegated {
			t.Fatalf("the supervisor did not evaluate prompt %d", i)
		}
		w.export(w.exe, root, nil) // an error
	}
	eventually(t, "the supervisor has as many descriptors as before", func() bool { return count() <= before })
}
