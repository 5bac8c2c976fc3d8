package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/ports"
)

// The benchmarks time whole processes of the program as users get it, beside a peer in the same run; what counts is the
// ratio. Run them with: go test -run '^$' -bench . -benchtime 10x ./cmd/localport

// releaseEnv is a world whose localport is a release build.
type releaseEnv struct{ *testEnv }

func newReleaseEnv(t testing.TB) releaseEnv {
	t.Helper()
	w := newTestEnv(t)
	w.exe = filepath.Join(t.TempDir(), "localport")
	if out, err := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", w.exe, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	w.env = slices.DeleteFunc(w.env, func(entry string) bool {
		return strings.HasPrefix(entry, mainVariable) || strings.HasPrefix(entry, "GOCOVERDIR=")
	})
	return releaseEnv{w}
}

// measure runs a program and returns what it took: wall time and CPU time, its own children's included.
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

// BenchmarkCd is what a cd into a project and out of it costs, beside direnv's with an empty .envrc. The supervisor
// runs already, as it does while it lingers.
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

// BenchmarkExecWarm is exec -- true while the supervisor runs, beside true itself.
func BenchmarkExecWarm(b *testing.B) {
	w := newReleaseEnv(b)
	root := w.project(tcpConfig("web", `"auto"`, serve(b, "127.0.0.1:0")))
	w.mustRun(root, "allow")
	w.mustRun(root, "start")
	defer w.mustRun(root, "stop")
	var ours, bare time.Duration
	for b.Loop() {
		wall, _ := w.measure(b, root, w.exe, "exec", "--", "true")
		ours += wall
		wall, _ = w.measure(b, root, "true")
		bare += wall
	}
	reportMean(b, ours, "ms/exec")
	reportMean(b, bare, "ms/true")
	b.ReportMetric(float64(ours)/float64(bare), "ratio")
}

// BenchmarkExecCold is exec -- true in a project that is down: a supervisor is started and waited for.
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

// BenchmarkSupervisorMemory is the supervisor's own memory with 1 and with 10 forwards.
func BenchmarkSupervisorMemory(b *testing.B) {
	for _, forwards := range []int{1, 10} {
		b.Run(fmt.Sprint(forwards), func(b *testing.B) {
			w := newReleaseEnv(b)
			var config strings.Builder
			far := serve(b, "127.0.0.1:0")
			for i := range forwards {
				config.WriteString(tcpConfig(fmt.Sprintf("s%d", i), `"auto"`, far))
			}
			root := w.project(config.String())
			w.mustRun(root, "allow")
			for b.Loop() {
				w.mustRun(root, "start")
				time.Sleep(5 * time.Second) // its start is over
				rss, own := processMemory(b, w.state(root).Supervisor.PID)
				b.ReportMetric(rss, "MB-resident")
				b.ReportMetric(own, "MB-private")
				w.mustRun(root, "stop")
			}
		})
	}
}

// processMemory is a process's resident and private memory in MB, from /proc/PID/smaps_rollup.
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

// BenchmarkKilledSupervisorAnswers is the time from the death of the supervisor until a client that comes at once has its
// answer, with no prompt and no command in between, beside what a command takes to bring the project up from nothing.
func BenchmarkKilledSupervisorAnswers(b *testing.B) {
	w := newReleaseEnv(b)
	port := ports.FreePort(b)
	root := w.project("linger = 0.001\n" + tcpConfig("web", port, serve(b, "127.0.0.1:0")))
	w.mustRun(root, "allow")
	var healed, cold time.Duration
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
		healed += time.Since(startTime)
		w.waitExit(supervisor)
		w.mustRun(root, "stop")
		eventually(b, "it is down", func() bool { return w.state(root).Supervisor == nil })
	}
	reportMean(b, healed, "ms/killed-to-answer")
	reportMean(b, cold, "ms/cold-exec")
	b.ReportMetric(float64(healed)/float64(cold), "ratio")
}
