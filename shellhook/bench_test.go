package shellhook_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/shellhook"
)

// measureCall returns the CPU time of one call, child processes included: that of a script with n calls, minus that of one without, divided by
// n.
func measureCall(b *testing.B, env []string, shell, setup, call string, n int) time.Duration {
	b.Helper()
	return (cpuTime(b, env, shell, setup, call, n) - cpuTime(b, env, shell, setup, call, 0)) / time.Duration(n)
}

func cpuTime(b *testing.B, env []string, shell, setup, call string, n int) time.Duration {
	b.Helper()
	loop := fmt.Sprintf("for ((i=0; i<%d; i++)); do %s; done", n, call)
	args := []string{"-c"}
	switch shell {
	case "zsh":
		args = []string{"-f", "-c"}
	case "fish":
		loop = fmt.Sprintf("for i in (seq %d); %s; end", n, call)
		args = []string{"--no-config", "-c"}
	}
	cmd := exec.Command(shell, append(args, setup+"\n"+call+"\n"+loop+"\n")...)
	cmd.Env = env
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		b.Fatalf("%s: %v\n%s", shell, err, out)
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

// BenchmarkPrompt measures a prompt where nothing changed: in a project with a running supervisor, and outside of any project. If direnv
// is installed, it also measures direnv's prompt in a directory that is loaded, and reports the ratio.
func BenchmarkPrompt(b *testing.B) {
	dir := b.TempDir()
	root, state := filepath.Join(dir, "p"), filepath.Join(dir, "state")
	for _, d := range []string{root, state} {
		if err := os.Mkdir(d, 0o755); err != nil {
			b.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, ".localport.toml"), nil, 0o600); err != nil {
		b.Fatal(err)
	}
	recordStamps(root, state)
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LANG=C.UTF-8", "DIRENV_LOG_FORMAT="}
	stat, _ := os.ReadFile("/proc/self/stat")
	start := "0"
	if _, rest, ok := strings.Cut(string(stat), ") "); ok {
		start = strings.Fields(rest)[19]
	}
	line := fmt.Sprintf("1 %d %s", os.Getpid(), start)
	if err := os.WriteFile(filepath.Join(state, shellhook.PromptFile), []byte(line+"\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		sh, err := shellhook.Lookup(shell)
		if err != nil {
			b.Fatal(err)
		}
		outside := sh.Hook("/nowhere/localport") + "\ncd " + dir
		inside := sh.Hook("/nowhere/localport") + "\ncd " + root + "\n" + sh.Set(shellhook.RootVariable, root) +
			sh.Set(shellhook.DirVariable, state) + sh.Set(shellhook.LineVariable, line)
		b.Run(shell, func(b *testing.B) {
			if _, err := exec.LookPath(shell); err != nil {
				b.Skipf("%s is not installed", shell)
			}
			for b.Loop() {
				ours := measureCall(b, env, shell, inside, "__localport_prompt", 10000)
				b.ReportMetric(float64(ours.Nanoseconds())/1000, "µs/prompt")
				outsideTime := measureCall(b, env, shell, outside, "__localport_prompt", 10000)
				b.ReportMetric(float64(outsideTime.Nanoseconds())/1000, "µs/outside")
				if _, err := exec.LookPath("direnv"); err == nil {
					theirs := measureCall(b, env, shell, direnvSetup(b, env, dir, shell), direnvCall[shell], 200)
					b.ReportMetric(float64(theirs.Nanoseconds())/1000, "µs/direnv")
					b.ReportMetric(float64(theirs)/float64(ours), "direnv/ours")
				}
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

var direnvCall = map[string]string{"bash": "_direnv_hook", "zsh": "_direnv_hook", "fish": "__direnv_export_eval"}

// direnvSetup returns the shell code that installs direnv's hook and enters a directory with an .envrc.
func direnvSetup(b *testing.B, env []string, dir, shell string) string {
	b.Helper()
	envrcDir := filepath.Join(dir, "direnv")
	if err := os.MkdirAll(envrcDir, 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(envrcDir, ".envrc"), []byte("export X=1\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	allow := exec.Command("direnv", "allow", envrcDir)
	allow.Env = env
	if out, err := allow.CombinedOutput(); err != nil {
		b.Fatalf("direnv allow: %v\n%s", err, out)
	}
	install := `eval "$(direnv hook ` + shell + `)"`
	if shell == "fish" {
		install = "direnv hook fish | source"
	}
	return install + "\ncd " + envrcDir
}
