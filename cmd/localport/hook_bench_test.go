package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// promptCode is how a script in each shell does what the shell does before a prompt.
var promptCode = map[string]string{
	"bash": "prompt() { local c; for c in \"${PROMPT_COMMAND[@]}\"; do eval \"$c\"; done; }\n",
	"zsh":  "prompt() { local f; for f in $precmd_functions; do $f; done }\n",
	"fish": "function prompt; emit fish_prompt; end\n",
}

var repeatCode = map[string]string{
	"bash": "for ((i = 0; i < %d; i++)); do %s; done\n", "zsh": "for ((i = 0; i < %d; i++)); do %s; done\n", "fish": "for i in (seq %d); %s; end\n",
}

var scriptArgs = map[string][]string{"bash": {"--norc", "-c"}, "zsh": {"-f", "-c"}, "fish": {"--no-config", "-c"}}

// BenchmarkHooks measures what a prompt where nothing changed, and a cd into a project and out of it, cost in each shell: without a hook, with
// ours, direnv's and mise's. CPU time is that of the shell and all that it starts, and that of the supervisor in addition; forks are counted by strace, if that may trace.
func BenchmarkHooks(b *testing.B) {
	w := newReleaseEnv(b)
	root := w.project(tcpConfig("web", `"auto"`, serve(b, "127.0.0.1:0")))
	w.mustRun(root, "allow")
	w.mustRun(root, "start")
	defer w.mustRun(root, "stop")
	dirs := map[string]string{"none": root, "localport": root, "direnv": w.home + "/direnv", "mise": w.home + "/mise"}
	for dir, file := range map[string]string{dirs["direnv"]: ".envrc", dirs["mise"]: "mise.toml"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		w.writeFile(dir, file, map[string]string{".envrc": "export A=1\n", "mise.toml": "[env]\nA = \"1\"\n"}[file])
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		hooks := map[string]string{
			"none":      "",
			"localport": `eval "$(` + w.exe + ` hook ` + shell + `)"`,
			"direnv":    environmentTools["direnv"].hook[shell],
			"mise":      environmentTools["mise"].hook[shell],
		}
		if shell == "fish" {
			hooks["localport"] = w.exe + " hook fish | source"
		}
		for _, tool := range []string{"none", "localport", "direnv", "mise"} {
			b.Run(shell+"/"+tool, func(b *testing.B) {
				for _, program := range []string{shell, tool} {
					if _, err := exec.LookPath(program); err != nil && program != "none" && program != "localport" {
						b.Skipf("%s is not installed", program)
					}
				}
				if allow := environmentTools[tool].allow; allow != nil {
					w.measure(b, dirs[tool], allow[0], allow[1:]...)
				}
				h := hookScript{w, shell, dirs[tool], promptCode[shell] + hooks[tool] + "\n"}
				prompts := 1000
				if tool != "none" && tool != "localport" {
					prompts = 20
				}
				for b.Loop() {
					b.ReportMetric(h.cost(b, "prompt", prompts), "µs/prompt")
					before := w.supervisorCPU(b, root)
					const cds = 50
					b.ReportMetric(h.cost(b, "cd /; prompt; cd "+h.dir+"; prompt", cds)/2, "µs/cd")
					b.ReportMetric(float64((w.supervisorCPU(b, root)-before).Microseconds())/(2*cds), "µs-supervisor/cd")
				}
				b.ReportMetric(h.forks(b, "prompt"), "forks/prompt")
				b.ReportMetric(h.forks(b, "cd /; prompt; cd "+h.dir+"; prompt")/2, "forks/cd")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// supervisorCPU returns the CPU time that a project's supervisor has used, in steps of a clock tick (10 ms).
func (w releaseEnv) supervisorCPU(b *testing.B, root string) time.Duration {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.supervisor(root).PID))
	if err != nil {
		b.Fatal(err)
	}
	// Fields 14 and 15 of proc_pid_stat(5), counted after the name in parentheses.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	ticks := 0
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// hookScript runs code in a shell with a hook, in a directory that the hook has entered.
type hookScript struct {
	w          releaseEnv
	shell, dir string
	setup      string
}

// command runs the code n times after one prompt.
func (h hookScript) command(code string, n int, wrap ...string) *exec.Cmd {
	script := h.setup + "cd " + h.dir + "\nprompt\n" + code + "\n" + fmt.Sprintf(repeatCode[h.shell], n, code)
	args := slices.Concat(wrap, []string{h.shell}, scriptArgs[h.shell], []string{script})
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = h.w.home, append(slices.Clone(h.w.env), "DIRENV_LOG_FORMAT=", "MISE_QUIET=1")
	return cmd
}

// cost returns the CPU time of running the code once, in microseconds.
func (h hookScript) cost(b *testing.B, code string, n int) float64 {
	b.Helper()
	run := func(n int) time.Duration {
		cmd := h.command(code, n)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%s: %v\n%s", h.shell, err, out)
		}
		return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	return float64((run(n) - run(0)).Nanoseconds()) / 1000 / float64(n)
}

var forkPattern = regexp.MustCompile(`(?m)^.*\b(clone3?|v?fork)\(.*$`)

// forks returns how many processes running the code once starts; -1 if that cannot be counted. Threads are no processes.
func (h hookScript) forks(b *testing.B, code string) float64 {
	b.Helper()
	count := func(n int) int {
		trace := filepath.Join(b.TempDir(), "trace")
		cmd := h.command(code, n, "strace", "-f", "-qq", "-e", "trace=clone,clone3,fork,vfork", "-o", trace)
		if err := cmd.Run(); err != nil {
			return -1
		}
		data, _ := os.ReadFile(trace)
		started := 0
		for _, line := range forkPattern.FindAllString(string(data), -1) {
			if !strings.Contains(line, "CLONE_THREAD") {
				started++
			}
		}
		return started
	}
	const n = 4
	without, with := count(0), count(n)
	if without < 0 || with < 0 {
		return -1
	}
	return float64(with-without) / n
}

// BenchmarkShellsRestoredAtOnce measures the export of fifty shells that enter a project at the same time, as when a terminal multiplexer restores
// its windows: with a supervisor that runs, and without one. direnv's export is measured in the same way.
func BenchmarkShellsRestoredAtOnce(b *testing.B) {
	const shells = 50
	w := newReleaseEnv(b)
	root := w.project("linger = 0.1\n" + tcpConfig("web", `"auto"`, serve(b, "127.0.0.1:0")))
	w.mustRun(root, "allow")
	other := w.home + "/direnv"
	if err := os.Mkdir(other, 0o755); err != nil {
		b.Fatal(err)
	}
	w.writeFile(other, ".envrc", "export A=1\n")
	_, noDirenv := exec.LookPath("direnv")
	if noDirenv == nil {
		w.measure(b, other, "direnv", "allow")
	}
	pid := fmt.Sprint(os.Getpid())
	for _, test := range []struct {
		name, dir string
		args      []string
		prepare   func()
	}{
		{"running", root, []string{w.exe, "export", "bash", "--pid", pid}, func() { w.mustRun(root, "start") }},
		{"stopped", root, []string{w.exe, "export", "bash", "--pid", pid}, func() { w.mustRun(root, "stop") }},
		{"direnv", other, []string{"direnv", "export", "bash"}, func() {}},
	} {
		b.Run(test.name, func(b *testing.B) {
			if test.name == "direnv" && noDirenv != nil {
				b.Skip("direnv is not installed")
			}
			var walls []time.Duration
			for b.Loop() {
				test.prepare()
				var mu sync.Mutex
				var group sync.WaitGroup
				for range shells {
					group.Go(func() {
						wall, _ := w.measure(b, test.dir, test.args[0], test.args[1:]...)
						mu.Lock()
						defer mu.Unlock()
						walls = append(walls, wall)
					})
				}
				group.Wait()
			}
			slices.Sort(walls)
			at := func(share float64) float64 {
				return float64(walls[int(share*float64(len(walls)-1))].Microseconds()) / 1000
			}
			b.ReportMetric(at(0.5), "ms/median")
			b.ReportMetric(at(0.99), "ms/p99")
			b.ReportMetric(at(1), "ms/max")
			b.ReportMetric(0, "ns/op")
		})
	}
	w.mustRun(root, "stop")
}
