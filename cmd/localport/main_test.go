package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/cmd/localport/internal/version"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/ssh/askpass"
	"github.com/localport-sh/localport/forwarder/ssh/wrapper"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/testdata/executable"
	"github.com/localport-sh/localport/testdata/fakekubectl"
	"github.com/localport-sh/localport/testdata/shellpty"
)

// mainVariable makes the test binary run as localport: the hooks, supervisors and commands of these tests are this binary.
const mainVariable = "LOCALPORT_TEST_MAIN"

func TestMain(m *testing.M) {
	askpass.Main()
	wrapper.Main()
	switch {
	case os.Getenv(refuseVariable) != "":
		os.Exit(runWithoutUnixSockets())
	case fakekubectl.IsKubectl():
		os.Exit(fakekubectl.Main())
	case os.Getenv(mainVariable) != "":
		os.Exit(runLocalport())
	case os.Getenv(upstreamVariable) != "":
		os.Exit(runUpstream())
	}
	flag.Parse()
	isParallelSet := false
	flag.Visit(func(f *flag.Flag) { isParallelSet = isParallelSet || f.Name == "test.parallel" })
	if !isParallelSet {
		_ = flag.Set("test.parallel", "8") // these tests mostly wait for processes
	}
	goleak.VerifyTestMain(m)
}

// refuseVariable makes the test binary execute its arguments as a process that gets EPERM for each unix socket.
const refuseVariable = "LOCALPORT_TEST_REFUSE_UNIX_SOCKETS"

// releaseSeparator precedes the release in the name of a copy of this program.
const releaseSeparator = "-release-"

// runLocalport runs localport, as the release that the name of the program ends with, if any.
func runLocalport() int {
	if dir := os.Getenv(resourcesVariable); dir != "" {
		// A release has no memory profile. That of a test binary grows with each new stack, page by page, by 1 MB.
		runtime.MemProfileRate = 0
		go writeResources(dir)
	}
	if exe, err := os.Executable(); err == nil {
		if _, release, found := strings.Cut(filepath.Base(exe), releaseSeparator); found {
			version.Release = release
		}
	}
	return run(os.Args[1:])
}

// testEnv is a home directory and the environment of a user, separate from the real one's, in which tests run localport.
type testEnv struct {
	t    testing.TB
	home string
	env  []string
	exe  string // localport
}

func newTestEnv(t testing.TB) *testEnv {
	t.Helper()
	home := shellpty.NewDir(t)
	w := &testEnv{t: t, home: home, exe: ownExecutable(t), env: []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LANG=C.UTF-8", "TERM=dumb", mainVariable + "=1",
		"GORACE=atexit_sleep_ms=0", "LOCALPORT_LIMIT=" + cmp.Or(os.Getenv("LOCALPORT_LIMIT"), promptLimit), "GOCOVERDIR=" + shellpty.CoverDir(),
	}}
	for name, dir := range map[string]string{
		"XDG_CONFIG_HOME": "config", "XDG_DATA_HOME": "data", "XDG_STATE_HOME": "state", "XDG_CACHE_HOME": "cache",
		"XDG_RUNTIME_DIR": "runtime",
	} {
		path := filepath.Join(home, dir)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		w.env = append(w.env, name+"="+path)
	}
	t.Cleanup(w.stopAll)
	t.Cleanup(w.describeFailure)
	return w
}

// describeFailure logs, if the test has failed, each project's state and the end of its supervisor's log, and the environment's processes.
func (w *testEnv) describeFailure() {
	if !w.t.Failed() {
		return
	}
	const maxLog = 3000 // bytes
	dirs, _ := filepath.Glob(filepath.Join(w.home, "state/localport/projects/*"))
	for _, dir := range dirs {
		state, err := os.ReadFile(filepath.Join(dir, "state.json"))
		log, logErr := os.ReadFile(filepath.Join(dir, "log/supervisor.log"))
		w.t.Logf("state of %s (error: %v): %s\nsupervisor.log (error: %v): %s", filepath.Base(dir), err, state, logErr, log[max(0, len(log)-maxLog):])
	}
	for _, pid := range w.processes() {
		args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		w.t.Logf("process %d: %s", pid, bytes.ReplaceAll(args, []byte{0}, []byte(" ")))
	}
}

// stopAll ends all supervisors and keepers that are still running, and waits until they have exited.
func (w *testEnv) stopAll() {
	// All at once, as at the end of a session: a keeper would replace its supervisor. On a busy machine one may all the same, because it gets its signal
	// more than keeperTermTimeout later; the new ones get one too.
	signalled := map[int]bool{}
	eventually(w.t, "every process of this environment has ended", func() bool {
		pids := w.processes()
		for _, pid := range pids {
			if !signalled[pid] {
				signalled[pid] = true
				_ = syscall.Kill(pid, syscall.SIGTERM)
				_ = syscall.Kill(pid, syscall.SIGCONT)
			}
		}
		return len(pids) == 0
	})
}

// processes returns the pids of the processes that run localport in this environment: supervisors and keepers.
func (w *testEnv) processes() []int {
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	var pids []int
	for _, path := range paths {
		env, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(env, []byte("HOME="+w.home+"\x00")) || !bytes.Contains(env, []byte(mainVariable+"=")) {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(path, "/proc/%d/environ", &pid); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// states returns the states of all projects.
func (w *testEnv) states() []lockstate.State {
	var states []lockstate.State
	paths, _ := filepath.Glob(filepath.Join(w.home, "state/localport/projects/*/state.json"))
	for _, path := range paths {
		var state lockstate.State
		if data, err := os.ReadFile(path); err == nil && json.Unmarshal(data, &state) == nil {
			states = append(states, state)
		}
	}
	return states
}

// state returns the state of a project; the zero value if it has none.
func (w *testEnv) state(root string) lockstate.State {
	for _, state := range w.states() {
		if state.Config == filepath.Join(root, ".localport.toml") {
			return state
		}
	}
	return lockstate.State{}
}

// supervisor returns the project's running supervisor.
func (w *testEnv) supervisor(root string) lockstate.Process {
	w.t.Helper()
	state := w.state(root)
	if state.Supervisor == nil || !state.Supervisor.IsAlive() {
		w.t.Fatalf("no supervisor runs for %s: %+v", root, state.Supervisor)
	}
	return state.Supervisor.Process
}

// waitExit waits until a process has ended.
func (w *testEnv) waitExit(p lockstate.Process) {
	w.t.Helper()
	eventually(w.t, fmt.Sprintf("process %d ends", p.PID), func() bool { return !p.IsAlive() })
}

// project creates a directory with a config and returns its physical path.
func (w *testEnv) project(config string) string {
	w.t.Helper()
	root := filepath.Join(shellpty.NewDir(w.t), "shop")
	if err := os.Mkdir(root, 0o755); err != nil {
		w.t.Fatal(err)
	}
	w.writeFile(root, ".localport.toml", config)
	return root
}

// allowedProject creates a project and allows it.
func (w *testEnv) allowedProject(config string) string {
	w.t.Helper()
	root := w.project(config)
	w.mustRun(root, "allow")
	return root
}

// writeFile writes a file, which may be a program after a change of its mode.
func (w *testEnv) writeFile(root, name, text string) {
	w.t.Helper()
	if err := executable.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// commandResult is what a command printed, and its exit code.
type commandResult struct {
	stdout, stderr string
	code           int
}

// localport runs a command of localport in dir.
func (w *testEnv) localport(dir string, args ...string) commandResult {
	w.t.Helper()
	return w.run(w.command(dir, args...))
}

func (w *testEnv) command(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command(w.exe, args...)
	cmd.Dir, cmd.Env = dir, w.env
	return cmd
}

func (w *testEnv) run(cmd *exec.Cmd) commandResult {
	w.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		w.t.Fatal(err)
	}
	return commandResult{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// mustRun runs a command of localport in dir and returns its stdout. It fails the test if the command fails.
func (w *testEnv) mustRun(dir string, args ...string) string {
	w.t.Helper()
	o := w.localport(dir, args...)
	if o.code != 0 {
		w.t.Fatalf("localport %s: exit %d\n%s%s", strings.Join(args, " "), o.code, o.stdout, o.stderr)
	}
	return o.stdout
}

// status returns the output of `status --json`.
func (w *testEnv) status(root string) api.Status {
	w.t.Helper()
	var status api.Status
	if err := json.Unmarshal([]byte(w.mustRun(root, "status", "--json")), &status); err != nil {
		w.t.Fatal(err)
	}
	return status
}

// service returns the status of one service.
func (w *testEnv) service(root, name string) api.ServiceStatus {
	w.t.Helper()
	for _, svc := range w.status(root).Services {
		if svc.Name == name {
			return svc
		}
	}
	w.t.Fatalf("status shows no service %q", name)
	return api.ServiceStatus{}
}

// shell starts a shell with the hook in dir.
func (w *testEnv) shell(kind, dir string) *shellpty.Shell {
	w.t.Helper()
	rc := `eval "$(` + w.exe + ` hook ` + kind + `)"`
	switch kind {
	case "fish":
		rc = w.exe + " hook fish | source"
	case "tcsh":
		rc = "eval \"`" + w.exe + " hook tcsh`\""
	case "elvish":
		rc = "eval (" + w.exe + " hook elvish | slurp)"
	case "nu":
		rc = w.mustRun(dir, "hook", "nu")
	}
	return shellpty.Start(w.t, shellpty.Config{Shell: kind, RC: rc, Dir: dir, Home: w.home, Env: w.env[2:]})
}

func ownExecutable(t testing.TB) string {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// eventually polls a condition, and fails the test if it is not met within 30 s.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// ask sends a line to an address and returns all that comes back.
func ask(addr, line string) (string, error) {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, line+"\n"); err != nil {
		return "", err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	return string(answer), err
}
