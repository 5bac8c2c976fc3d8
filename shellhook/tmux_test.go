package shellhook_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/shellhook"
	"github.com/localport-sh/localport/testdata/shellpty"
)

// tmux is a running tmux server with one session.
type tmux struct {
	t   *testing.T
	dir string // has the socket and what the panes write
	env []string
}

func (x *tmux) run(args ...string) {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "tmux", append([]string{"-S", filepath.Join(x.dir, "socket"), "-f", "/dev/null"}, args...)...)
	cmd.Env = x.env
	if out, err := cmd.CombinedOutput(); err != nil {
		x.t.Fatalf("tmux %q: %v\n%s", args, err, out)
	}
}

// project returns the value of PROJECT before the next command of the current pane.
func (x *tmux) project() string {
	x.t.Helper()
	path := filepath.Join(x.dir, "project")
	x.run("send-keys", `echo "$PROJECT,$LOCALPORT_DIFF" >`+path+`; tmux wait-for -S done`, "Enter")
	x.run("wait-for", "done")
	data, err := os.ReadFile(path)
	if err != nil {
		x.t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

// A tmux server passes on the environment that it was started with: here that of a shell in a project.
func TestHook_InPanesOfTmux(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		for _, program := range []string{"tmux", shell} {
			if _, err := exec.LookPath(program); err != nil {
				t.Skip(err)
			}
		}
		dir := shellpty.NewDir(t)
		startup := filepath.Join(dir, map[string]string{"bash": "bashrc", "zsh": ".zshrc", "fish": "init.fish"}[shell])
		if err := os.WriteFile(startup, []byte(w.rc(shell)), 0o600); err != nil {
			t.Fatal(err)
		}
		command := map[string]string{
			"bash": "bash --noprofile --rcfile " + startup + " -i",
			"zsh":  "zsh -d -i",
			"fish": "fish --no-config --interactive --init-command " + shellhook.Quote("source "+startup),
		}[shell]
		a, b, outside := w.project("a"), w.project("b"), w.mkdir("outside")
		x := &tmux{t: t, dir: dir, env: []string{
			"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "ZDOTDIR=" + dir, "SHELL=/bin/sh", "TERM=xterm", "LANG=C.UTF-8", "GORACE=atexit_sleep_ms=0",
			"GOCOVERDIR=" + shellpty.CoverDir(), "PROJECT=" + a, "LOCALPORT_DIFF=" + a, "__localport_root=" + a, "__localport_shell=1",
		}}
		expect := func(want string) {
			t.Helper()
			if got := x.project(); got != want+","+want {
				t.Errorf("PROJECT and LOCALPORT_DIFF are %q, want %q", got, want)
			}
		}
		x.run("new-session", "-d", "-x", "200", "-y", "50", "-c", a, command)
		t.Cleanup(func() { x.run("kill-server") })
		expect(a)
		x.run("split-window", "-c", b, command)
		expect(b)
		x.run("new-window", "-c", outside, command)
		expect("")
		// The variables of a project that another shell of the server is in.
		x.run("set-environment", "-g", "LOCALPORT_DIFF", b)
		x.run("set-environment", "-g", "PROJECT", b)
		x.run("new-window", "-c", outside, command)
		expect("")
		x.run("new-window", "-c", a, command)
		expect(a)
		if calls := w.recordedExports(); len(calls) != 5 {
			t.Errorf("%d exports, want one for each pane", len(calls))
		}
	})
}
