//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/bench"
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

// noHook is a shell without any hook, as a peer.
const noHook = "no hook"

// BenchmarkHooks measures what a prompt where nothing changed, and a cd into a project and out of it, cost in each shell: with our hook, with those
// of other tools, and without any. CPU time is that of the shell and all that it starts; what the supervisor uses for a cd, and the forks by
// strace, are metrics of the benchmark. Each tool's project is up and has not changed.
func BenchmarkHooks(b *testing.B) {
	w := newReleaseEnv(b)
	root := w.project(tcpConfig("web", `"auto"`, serve(b, "127.0.0.1:0")))
	w.mustRun(root, "allow")
	w.mustRun(root, "start")
	defer w.mustRun(root, "stop")
	dirs := map[string]string{bench.LocalPort: root, noHook: "/usr"}
	for tool, file := range map[string][2]string{
		"direnv":    {".envrc", "export A=1\n"},
		"mise":      {"mise.toml", "[env]\nA = \"1\"\n"},
		"pitchfork": {"pitchfork.toml", "[daemons.web]\nrun = \"sleep 1000000\"\n"},
	} {
		dirs[tool] = w.home + "/" + tool
		if err := os.Mkdir(dirs[tool], 0o755); err != nil {
			b.Fatal(err)
		}
		w.writeFile(dirs[tool], file[0], file[1])
		if allow := environmentTools[tool].allow; allow != nil && (bench.Program{Name: tool}).Missing() == "" {
			w.measure(b, dirs[tool], allow[0], allow[1:]...)
		}
	}
	if pitchforkProgram.Missing() == "" {
		defer func() { _ = w.runDetached(b, "/", "pitchfork", "supervisor", "stop") }()
		if err := w.runDetached(b, dirs["pitchfork"], "pitchfork", "start", "web"); err != nil {
			b.Log(err)
		}
	}
	results := resultsOf(b)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		b.Run(shell, func(b *testing.B) {
			if _, err := exec.LookPath(shell); err != nil {
				b.Skipf("%s is not installed", shell)
			}
			goal := map[string]float64{"bash": 1. / 50, "zsh": 1. / 50, "fish": 1. / 20}[shell]
			prompt := results.Compare("unchanged prompt, "+shell, "µs of CPU", bench.Peer{Name: "direnv", Goal: bench.AtMost(goal)}, bench.Peer{Name: "mise"}, bench.Peer{Name: noHook})
			cd := results.Compare("cd in or out, "+shell, "µs of CPU", bench.Peer{Name: "pitchfork", Goal: bench.AtMost(0.8)},
				bench.Peer{Name: "direnv", Goal: bench.AtMost(1. / 3)}, bench.Peer{Name: "mise"}, bench.Peer{Name: noHook})
			needPeers([]*bench.Comparison{prompt, cd}, direnvProgram, miseProgram, pitchforkProgram)
			hooks := hooksOf(w.exe, shell)
			for _, peer := range cd.Peers {
				h := hookScript{w, shell, dirs[peer.Name], promptCode[shell] + hooks[peer.Name] + "\n"}
				if cd.IsMissing(peer.Name) {
					continue
				}
				if out, err := h.command("cd /; prompt; cd "+h.dir+"; prompt", 1).CombinedOutput(); err != nil {
					prompt.Missing(peer.Name, fmt.Sprintf("its hook for %s failed: %v: %s", shell, err, out))
					cd.Missing(peer.Name, fmt.Sprintf("its hook for %s failed: %v: %s", shell, err, out))
				}
			}
			for round := 0; b.Loop(); round++ {
				for _, tool := range prompt.Order(round) {
					prompts := 20
					if tool == bench.LocalPort || tool == noHook {
						prompts = 1000
					}
					prompt.Add(tool, hookScript{w, shell, dirs[tool], promptCode[shell] + hooks[tool] + "\n"}.cost(b, "prompt", prompts))
				}
				for _, tool := range cd.Order(round) {
					const cds = 20
					h := hookScript{w, shell, dirs[tool], promptCode[shell] + hooks[tool] + "\n"}
					before := w.supervisorCPU(b, root)
					cd.Add(tool, h.cost(b, "cd /; prompt; cd "+h.dir+"; prompt", cds)/2)
					if tool == bench.LocalPort { // not part of what the shell waits for or starts
						b.ReportMetric(float64((w.supervisorCPU(b, root)-before).Microseconds())/(2*cds), "µs-supervisor/cd")
					}
				}
			}
			reportMetrics(b, prompt, cd)
			if _, err := exec.LookPath("strace"); err != nil {
				return
			}
			for _, tool := range cd.Order(0) {
				h := hookScript{w, shell, dirs[tool], promptCode[shell] + hooks[tool] + "\n"}
				for name, code := range map[string]string{"prompt": "prompt", "cd": "cd /; prompt; cd " + h.dir + "; prompt"} {
					const n = 4
					count := h.countProcesses(b, code, n).perRepetition(h.countProcesses(b, code, 0), n)
					b.ReportMetric(float64(count.forks)/map[string]float64{"prompt": 1, "cd": 2}[name], strings.ReplaceAll(tool, " ", "-")+"-forks/"+name)
				}
			}
		})
	}
}

// runDetached runs a program that starts a background process, which may keep its output open.
func (w releaseEnv) runDetached(b *testing.B, dir string, argv ...string) error {
	b.Helper()
	output, err := os.CreateTemp(b.TempDir(), "output")
	if err != nil {
		return err
	}
	defer output.Close()
	ctx, cancel := context.WithTimeout(b.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, w.env, output, output
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(output.Name())
		return fmt.Errorf("%v: %w: %s", argv, err, text)
	}
	return nil
}

// hooksOf returns the code that installs the hook of each tool in a shell.
func hooksOf(exe, shell string) map[string]string {
	hooks := map[string]string{
		bench.LocalPort: `eval "$(` + exe + ` hook ` + shell + `)"`,
		"direnv":        environmentTools["direnv"].hook[shell],
		"mise":          environmentTools["mise"].hook[shell],
		"pitchfork":     `eval "$(pitchfork activate ` + shell + `)"`,
	}
	if shell == "fish" {
		hooks[bench.LocalPort] = exe + " hook fish | source"
		hooks["pitchfork"] = "pitchfork activate fish | source"
	}
	return hooks
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
