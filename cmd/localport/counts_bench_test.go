//go:build linux

package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/cmd/localport/internal/prompt"
	"github.com/localport-sh/localport/testdata/bench"
	"github.com/localport-sh/localport/testdata/ports"
)

// These tests limit counts, which do not depend on how fast or busy a machine is. The limits are what was measured, and a little more.

// processCounts are what a shell and all that it starts do.
type processCounts struct {
	forks   int // processes, not threads
	execs   int
	threads int
	calls   int // system calls, without those that depend on the scheduling of threads
}

func (c processCounts) String() string {
	return fmt.Sprintf("%d forks, %d execs, %d threads, %d system calls", c.forks, c.execs, c.threads, c.calls)
}

// perRepetition returns the counts of one of n repetitions; before are those of a trace without any.
func (c processCounts) perRepetition(before processCounts, n int) processCounts {
	return processCounts{(c.forks - before.forks) / n, (c.execs - before.execs) / n, (c.threads - before.threads) / n, (c.calls - before.calls) / n}
}

// A line of strace's output that shows the start of a system call.
var systemCallPattern = regexp.MustCompile(`^\d+ +(\w+)\(`)

// schedulingCalls are system calls whose number depends on which thread runs when.
var schedulingCalls = regexp.MustCompile(`^(futex|epoll_p?wait2?|nanosleep|clock_nanosleep|sched_\w+|tgkill|rt_sig\w+|madvise|restart_syscall|getpid|wait4|waitid|poll|ppoll|pselect6)$`)

// countProcesses runs the code n times in a shell with the hook, after a prompt in the project, and counts by strace.
func (h hookScript) countProcesses(t testing.TB, code string, n int) processCounts {
	t.Helper()
	path := filepath.Join(t.TempDir(), "trace")
	cmd := h.command(code, n, "strace", "-f", "-qq", "-s", "0", "-o", path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", h.shell, err, out)
	}
	return readTrace(t, path)
}

// readTrace counts what strace has written to a file.
func readTrace(t testing.TB, path string) (c processCounts) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		match := systemCallPattern.FindStringSubmatch(line)
		if match == nil {
			continue
		}
		switch name := match[1]; {
		case strings.HasPrefix(name, "clone") && strings.Contains(line, "CLONE_THREAD"):
			c.threads++
			continue
		case strings.HasPrefix(name, "clone"), name == "fork", name == "vfork":
			c.forks++
		case name == "execve":
			c.execs++
		case schedulingCalls.MatchString(name):
			continue
		}
		c.calls++
	}
	return c
}

// TestCounts_PromptAndCd limits the processes, programs and system calls of a prompt where nothing changed, and of a cd into a project that is up
// and out of it.
func TestCounts_PromptAndCd(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed")
	}
	w := releaseEnv{newTestEnv(t)} // a release would take a minute to build, and has fewer system calls
	root := w.project(tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	w.mustRun(root, "allow")
	w.mustRun(root, "start")
	for _, limits := range []struct {
		shell      string
		prompt, cd processCounts
	}{
		{shell: "bash", prompt: processCounts{0, 0, 0, 60}, cd: processCounts{1, 1, 10, 470}},
		{shell: "zsh", prompt: processCounts{0, 0, 0, 45}, cd: processCounts{1, 1, 10, 550}},
		{shell: "fish", prompt: processCounts{0, 0, 0, 30}, cd: processCounts{1, 1, 11, 600}},
	} {
		t.Run(limits.shell, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(limits.shell); err != nil {
				t.Skipf("%s is not installed", limits.shell)
			}
			h := hookScript{w, limits.shell, root, promptCode[limits.shell] + hooksOf(w.exe, limits.shell)[bench.LocalPort] + "\n"}
			// A cd in and one out: two exports.
			for _, step := range []struct {
				name, code string
				n, parts   int
				limit      processCounts
			}{
				{"an unchanged prompt", "prompt", 20, 1, limits.prompt},
				{"a cd", "cd /; prompt; cd " + root + "; prompt", 4, 2, limits.cd},
			} {
				got := h.countProcesses(t, step.code, step.n).perRepetition(h.countProcesses(t, step.code, 0), step.n*step.parts)
				t.Logf("%s: %v", step.name, got)
				if got.forks != step.limit.forks || got.execs != step.limit.execs {
					t.Errorf("%s has %v, want %d forks and %d execs", step.name, got, step.limit.forks, step.limit.execs)
				}
				if !raceDetected() && (got.threads > step.limit.threads || got.calls > step.limit.calls) {
					t.Errorf("%s has %v, limits: %v", step.name, got, step.limit)
				}
			}
		})
	}
}

// TestCounts_SupervisorPerServiceAndConnection limits what each service and each connection adds to a supervisor.
func TestCounts_SupervisorPerServiceAndConnection(t *testing.T) {
	t.Parallel()
	const services, conns = 20, 200
	w := newTestEnv(t)
	w.env = append(w.env, resourcesVariable+"="+t.TempDir())
	echo, local := startServer(t, "127.0.0.1:0", func(conn net.Conn) {
		buf := make([]byte, 64)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			_, _ = conn.Write(buf[:n])
		}
	}), ports.FreePort(t)
	one := w.allowedProject(tcpConfig("web", local, echo))
	many := w.allowedProject(tcpConfig("web", `"auto"`, echo) + tcpServices(services, echo))
	for _, root := range []string{one, many} {
		w.mustRun(root, "start")
		w.waitKeeper(root)
	}
	few, all := w.reportedResources(w.supervisor(one).PID), w.reportedResources(w.supervisor(many).PID)
	checkEach(t, "service", few, all, services, resources{files: 2, goroutines: 4, heap: 24})

	for range conns {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", local))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if _, err := conn.Write([]byte{'x'}); err != nil {
			t.Fatal(err)
		}
		if err := receiveBytes(conn, 1); err != nil {
			t.Fatal(err)
		}
	}
	checkEach(t, "connection", few, w.reportedResources(w.supervisor(one).PID), conns, resources{files: 2, goroutines: 2, heap: 4})
}

// checkEach fails the test if each of n added things uses more than its limit: files, goroutines, and without the race detector kB of heap.
func checkEach(t *testing.T, what string, before, after resources, n int, limit resources) {
	t.Helper()
	t.Logf("%d times a %s: %v, before: %v", n, what, after, before)
	const tolerance = 8 // files and goroutines that come and go
	if added := after.files - before.files; added > n*limit.files+tolerance {
		t.Errorf("%d files for %d times a %s, limit %d each", added, n, what, limit.files)
	}
	if added := after.goroutines - before.goroutines; added > n*limit.goroutines+tolerance {
		t.Errorf("%d goroutines for %d times a %s, limit %d each", added, n, what, limit.goroutines)
	}
	if added := after.heap - before.heap; !raceDetected() && added > n*limit.heap {
		t.Errorf("%d kB of heap for %d times a %s, limit %d each", added, n, what, limit.heap)
	}
}

// TestCounts_ExportAllocations limits the allocations of the export of a prompt, of a shell that is in a project that is up.
func TestCounts_ExportAllocations(t *testing.T) {
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	for _, entry := range w.env {
		if name, value, _ := strings.Cut(entry, "="); name == "HOME" || strings.HasPrefix(name, "XDG_") {
			t.Setenv(name, value)
		}
	}
	t.Setenv("LOCALPORT_LIMIT", promptLimit)
	t.Chdir(root)
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	stdout, stderr := os.Stdout, os.Stderr
	defer func() { os.Stdout, os.Stderr = stdout, stderr }()
	os.Stdout, os.Stderr = null, null
	code := 0
	allocations := testing.AllocsPerRun(5, func() { code = prompt.Export([]string{"bash", "--pid", fmt.Sprint(os.Getpid())}) })
	os.Stdout, os.Stderr = stdout, stderr
	t.Logf("%.0f allocations, exit %d", allocations, code)
	if limit := 1300.; allocations > limit || code != 0 {
		t.Errorf("%.0f allocations, limit %.0f; exit %d", allocations, limit, code)
	}
}

// TestCounts_CommandLineAllocations limits the allocations of parsing the command lines that scripts run often. The whole grammar takes 11,500.
func TestCounts_CommandLineAllocations(t *testing.T) {
	for _, args := range [][]string{{"env"}, {"port", "web"}, {"status"}, {"exec", "--", "true"}, {"-C", "/", "env", "--json"}} {
		allocations := testing.AllocsPerRun(5, func() {
			var g grammar
			if _, err := parse(t.Context(), &app{}, &g, args); err != nil {
				t.Error(err)
			}
		})
		t.Logf("%v: %.0f allocations", args, allocations)
		if allocations > maxParseAllocations {
			t.Errorf("%v: %.0f allocations, limit %d", args, allocations, maxParseAllocations)
		}
	}
	t.Logf("the whole grammar: %.0f allocations", testing.AllocsPerRun(5, func() { newParser(t.Context(), &app{}, &grammar{}) }))
}

// TestCounts_CompletionOfNames limits what the next word of a command line costs: no other process, no network, and few system calls and allocations.
func TestCounts_CompletionOfNames(t *testing.T) {
	w := newTestEnv(t)
	root := w.project(tcpServices(100, &server{port: 80}))
	contexts := "contexts:\n"
	for i := range 100 {
		contexts += fmt.Sprintf("- {name: c%d, context: {}}\n", i)
	}
	w.writeFile(w.home, "kubeconfig", contexts)
	w.env = append(w.env, "KUBECONFIG="+filepath.Join(w.home, "kubeconfig"))
	t.Setenv("KUBECONFIG", filepath.Join(w.home, "kubeconfig"))
	for _, test := range []struct {
		kind        string
		allocations float64
		calls       int
	}{
		{"services", 6000, 240},
		{"contexts", 3000, 240},
	} {
		var out strings.Builder
		allocations := testing.AllocsPerRun(5, func() {
			out.Reset()
			completeNames(&app{out: output.NewWriter(&out), err: output.NewWriter(io.Discard)}, []string{test.kind, "-C", root})
		})
		if names := strings.Count(out.String(), "\n"); names == 0 {
			t.Fatalf("%s: no names", test.kind)
		}
		t.Logf("%s: %.0f allocations", test.kind, allocations)
		if allocations > test.allocations && !raceDetected() {
			t.Errorf("%s: %.0f allocations, limit %.0f", test.kind, allocations, test.allocations)
		}
		if _, err := exec.LookPath("strace"); err != nil {
			t.Skip("strace is not installed")
		}
		path := filepath.Join(t.TempDir(), "trace")
		cmd := w.program(root, "strace", "-f", "-qq", "-s", "0", "-o", path, w.exe, "__complete", test.kind)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		got := readTrace(t, path)
		t.Logf("%s: %v", test.kind, got)
		if got.forks != 0 || got.execs != 1 || got.calls > test.calls && !raceDetected() {
			t.Errorf("%s: %v, limit %d system calls", test.kind, got, test.calls)
		}
		if trace, err := os.ReadFile(path); err != nil || strings.Contains(string(trace), " socket(") {
			t.Errorf("%s opens a socket (%v)", test.kind, err)
		}
	}
}

// TestCounts_RequestsOfCommands limits the requests that commands make of a supervisor whose services are ready.
func TestCounts_RequestsOfCommands(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed")
	}
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	for _, test := range []struct {
		command string
		limit   int
	}{
		{"port web", 1},
		{"status", 2},           // the second is for a warning
		{"env", 2},              // the status and a view
		{"exec -- true", 3},     // a view, the status and the start
		{"exec -s web true", 3}, // the same
	} {
		path := filepath.Join(t.TempDir(), "trace")
		args := append([]string{"-f", "-qq", "-e", "trace=connect", "-s", "200", "-o", path, w.exe}, strings.Fields(test.command)...)
		if o := w.run(w.program(root, "strace", args...)); o.code != 0 {
			t.Fatalf("%s: exit %d\n%s", test.command, o.code, o.stderr)
		}
		trace, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		requests := 0
		for line := range strings.Lines(string(trace)) {
			if strings.Contains(line, "connect(") && strings.Contains(line, ".sock\"") {
				requests++
			}
		}
		t.Logf("%s: %d requests", test.command, requests)
		if requests == 0 || requests > test.limit {
			t.Errorf("%s: %d requests, want at most %d:\n%s", test.command, requests, test.limit, trace)
		}
	}
}
