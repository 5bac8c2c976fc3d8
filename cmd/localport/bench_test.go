package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/executable"
	"github.com/localport-sh/localport/testdata/ports"
)

// The benchmarks time whole processes of a release build, and in the same run another program for comparison: the ratio is what
// counts. Run them with: go test -run '^$' -bench . -benchtime 10x ./cmd/localport

// buildRelease builds the program once, and returns its bytes.
var buildRelease = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "release")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	linked := filepath.Join(dir, "localport")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", linked, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // without libc, whose loading takes a sixth of a prompt's time
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return os.ReadFile(linked)
})

// releaseEnv is a testEnv whose localport is a release build.
type releaseEnv struct{ *testEnv }

func newReleaseEnv(t testing.TB) releaseEnv {
	t.Helper()
	w := newTestEnv(t)
	program, err := buildRelease()
	if err != nil {
		t.Fatal(err)
	}
	// A copy, as an installer writes it: the linker maps its output into memory, which leaves the page cache with single pages. Until they are read
	// from the disk again, each start of the program takes 0.2 to 0.4 times more.
	w.exe = filepath.Join(t.TempDir(), "localport")
	if err := executable.WriteFile(w.exe, program, 0o755); err != nil {
		t.Fatal(err)
	}
	// mainVariable stays: stopAll finds the processes by it.
	w.env = slices.DeleteFunc(w.env, func(entry string) bool { return strings.HasPrefix(entry, "GOCOVERDIR=") })
	return releaseEnv{w}
}

// measure runs a program and returns its wall time and its CPU time, with that of its children.
func (w releaseEnv) measure(b *testing.B, dir, program string, args ...string) (wall, cpu time.Duration) {
	b.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = dir, w.env
	startTime := time.Now()
	out, err := cmd.CombinedOutput()
	wall = time.Since(startTime)
	if err != nil {
		b.Fatalf("%s %v: %v\n%s", program, args, err, out)
	}
	return wall, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

func reportMean(b *testing.B, total time.Duration, name string) {
	b.ReportMetric(float64(total.Microseconds())/float64(b.N)/1000, name)
}

// BenchmarkCd measures a cd into a project and out of it, compared with direnv and an empty .envrc. The supervisor is already running.
func BenchmarkCd(b *testing.B) {
	w := newReleaseEnv(b)
	root := w.project(tcpConfig("web", `"auto"`, serve(b, "127.0.0.1:0")))
	w.mustRun(root, "allow")
	w.mustRun(root, "start")
	defer w.mustRun(root, "stop")
	if _, err := exec.LookPath("direnv"); err != nil {
		b.Skip("direnv is not installed")
	}
	other := w.home + "/direnv"
	if err := os.Mkdir(other, 0o755); err != nil {
		b.Fatal(err)
	}
	w.writeFile(other, ".envrc", "export A=1\n")
	w.measure(b, other, "direnv", "allow")
	pid := fmt.Sprint(os.Getpid())
	var ours, theirs, ourCPU, theirCPU time.Duration
	for b.Loop() {
		for _, prompt := range []struct {
			dir  string
			args []string
		}{{root, []string{"export", "bash", "--pid", pid}}, {"/", []string{"export", "bash", "--pid", pid, "--root", root}}} {
			wall, cpu := w.measure(b, prompt.dir, w.exe, prompt.args...)
			ours, ourCPU = ours+wall, ourCPU+cpu
		}
		for _, dir := range []string{other, "/"} {
			wall, cpu := w.measure(b, dir, "direnv", "export", "bash")
			theirs, theirCPU = theirs+wall, theirCPU+cpu
		}
	}
	reportMean(b, ours, "ms/cd-in-and-out")
	reportMean(b, theirs, "ms/direnv")
	b.ReportMetric(float64(ours)/float64(theirs), "wall-ratio")
	b.ReportMetric(float64(ourCPU)/float64(theirCPU), "cpu-ratio")
}

// BenchmarkExecWarm measures exec -- true while the supervisor is running, compared with true itself.
func BenchmarkExecWarm(b *testing.B) {
	w := newReleaseEnv(b)
	root := w.project(tcpConfig("web", `"auto"`, serve(b, "127.0.0.1:0")))
	w.mustRun(root, "allow")
	w.mustRun(root, "start")
	defer w.mustRun(root, "stop")
	var ours, direct time.Duration
	for b.Loop() {
		wall, _ := w.measure(b, root, w.exe, "exec", "--", "true")
		ours += wall
		wall, _ = w.measure(b, root, "true")
		direct += wall
	}
	reportMean(b, ours, "ms/exec")
	reportMean(b, direct, "ms/true")
	b.ReportMetric(float64(ours)/float64(direct), "ratio")
}

// BenchmarkExecCold measures exec -- true in a stopped project: it starts a supervisor and waits for it.
func BenchmarkExecCold(b *testing.B) {
	w := newReleaseEnv(b)
	root := w.project("linger = 0.001\n" + tcpConfig("web", `"auto"`, serve(b, "127.0.0.1:0")))
	w.mustRun(root, "allow")
	var ours time.Duration
	for b.Loop() {
		wall, _ := w.measure(b, root, w.exe, "exec", "--", "true")
		ours += wall
		if state := w.state(root); state.Supervisor != nil {
			w.waitExit(state.Supervisor.Process)
		}
	}
	reportMean(b, ours, "ms/exec")
}

// BenchmarkSupervisorMemory measures the supervisor's memory with 1 and with 10 forwards.
func BenchmarkSupervisorMemory(b *testing.B) {
	for _, forwards := range []int{1, 10} {
		b.Run(fmt.Sprint(forwards), func(b *testing.B) {
			w := newReleaseEnv(b)
			var config strings.Builder
			upstream := serve(b, "127.0.0.1:0")
			for i := range forwards {
				config.WriteString(tcpConfig(fmt.Sprintf("s%d", i), `"auto"`, upstream))
			}
			root := w.project(config.String())
			w.mustRun(root, "allow")
			for b.Loop() {
				w.mustRun(root, "start")
				time.Sleep(5 * time.Second) // until its start is over
				rss, own := processMemory(b, w.state(root).Supervisor.PID)
				b.ReportMetric(rss, "MB-resident")
				b.ReportMetric(own, "MB-private")
				w.mustRun(root, "stop")
			}
		})
	}
}

// processMemory returns a process's resident and private memory in MB, from /proc/PID/smaps_rollup.
func processMemory(b *testing.B, pid int) (resident, private float64) {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var kb float64
		fields := strings.Fields(line)
		if len(fields) < 3 {
			continue
		}
		_, _ = fmt.Sscan(fields[1], &kb)
		switch {
		case fields[0] == "Rss:":
			resident = kb / 1024
		case strings.HasPrefix(fields[0], "Private_"):
			private += kb / 1024
		}
	}
	return resident, private
}

// BenchmarkKilledSupervisorAnswers measures the time from the kill of a supervisor until a client that connects at once has its answer,
// without a prompt or command in between, compared with a command that starts the project.
func BenchmarkKilledSupervisorAnswers(b *testing.B) {
	w := newReleaseEnv(b)
	port := ports.FreePort(b)
	root := w.project("linger = 0.001\n" + tcpConfig("web", port, serve(b, "127.0.0.1:0")))
	w.mustRun(root, "allow")
	var recovery, cold time.Duration
	for b.Loop() {
		wall, _ := w.measure(b, root, w.exe, "exec", "--", "true")
		cold += wall
		w.mustRun(root, "start")
		w.waitKeeper(root)
		supervisor := w.state(root).Supervisor.Process
		if err := syscall.Kill(supervisor.PID, syscall.SIGKILL); err != nil {
			b.Fatal(err)
		}
		startTime := time.Now()
		if answer, err := ask(fmt.Sprintf("127.0.0.1:%d", port), "you"); answer != "hello you\n" {
			b.Fatal(answer, err)
		}
		recovery += time.Since(startTime)
		w.waitExit(supervisor)
		w.mustRun(root, "stop")
		eventually(b, "the supervisor has ended", func() bool { return w.state(root).Supervisor == nil })
	}
	reportMean(b, recovery, "ms/killed-to-answer")
	reportMean(b, cold, "ms/cold-exec")
	b.ReportMetric(float64(recovery)/float64(cold), "ratio")
}
