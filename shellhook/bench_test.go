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
	cmd := exec.Command(shell, repeatedCall(shell, setup, call, n)...)
	cmd.Env = env
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		b.Fatalf("%s: %v\n%s", shell, err, out)
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

// repeatedCall returns the arguments of a shell that runs a script with n calls, after a first one.
func repeatedCall(shell, setup, call string, n int) []string {
	loop := fmt.Sprintf("for ((i=0; i<%d; i++)); do %s; done", n, call)
	args := []string{"-c"}
	switch shell {
	case "zsh":
		args = []string{"-f", "-c"}
	case "fish":
		loop = fmt.Sprintf("for i in (seq %d); %s; end", n, call)
		args = []string{"--no-config", "-c"}
	}
	return append(args, setup+"\n"+call+"\n"+loop+"\n")
}

// unchangedPrompt is a project with a running supervisor, in which a prompt finds nothing changed.
type unchangedPrompt struct {
	dir, root, state, line string
	env                    []string
}

func newUnchangedPrompt(t testing.TB) unchangedPrompt {
	t.Helper()
	dir := t.TempDir()
	p := unchangedPrompt{dir: dir, root: filepath.Join(dir, "p"), state: filepath.Join(dir, "state")}
	for _, d := range []string{p.root, p.state} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(p.root, ".localport.toml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	recordStamps(p.root, p.state)
	p.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LANG=C.UTF-8", "DIRENV_LOG_FORMAT="}
	stat, _ := os.ReadFile("/proc/self/stat")
	start := "0"
	if _, rest, ok := strings.Cut(string(stat), ") "); ok {
		start = strings.Fields(rest)[19]
	}
	p.line = fmt.Sprintf("1 %d %s", os.Getpid(), start)
	if err := os.WriteFile(filepath.Join(p.state, shellhook.PromptFile), []byte(p.line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// setup returns the shell code that installs the hook inside the project, or outside of any.
func (p unchangedPrompt) setup(sh shellhook.Shell, isInside bool) string {
	install := sh.Hook("/nowhere/localport") + "\ncd "
	if !isInside {
		return install + p.dir
	}
	return install + p.root + "\n" + sh.Set(shellhook.RootVariable, p.root) + sh.Set(shellhook.DirVariable, p.state) + sh.Set(shellhook.LineVariable, p.line)
}

// BenchmarkPrompt measures a prompt where nothing changed: in a project with a running supervisor, and outside of any project. If direnv
// is installed, it also measures direnv's prompt in a directory that is loaded, and reports the ratio.
func BenchmarkPrompt(b *testing.B) {
	p := newUnchangedPrompt(b)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		sh, err := shellhook.Lookup(shell)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(shell, func(b *testing.B) {
			if _, err := exec.LookPath(shell); err != nil {
				b.Skipf("%s is not installed", shell)
			}
			for b.Loop() {
				ours := measureCall(b, p.env, shell, p.setup(sh, true), "__localport_prompt", 10000)
				b.ReportMetric(float64(ours.Nanoseconds())/1000, "µs/prompt")
				outsideTime := measureCall(b, p.env, shell, p.setup(sh, false), "__localport_prompt", 10000)
				b.ReportMetric(float64(outsideTime.Nanoseconds())/1000, "µs/outside")
				if _, err := exec.LookPath("direnv"); err == nil {
					theirs := measureCall(b, p.env, shell, direnvSetup(b, p.env, p.dir, shell), direnvCall[shell], 200)
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
