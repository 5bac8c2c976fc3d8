package shellhook_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/localport-sh/localport/shellhook"
	"github.com/localport-sh/localport/testdata/shellpty"
)

// testEnv is a directory with a fake localport and with directories to change to.
type testEnv struct {
	t   *testing.T
	dir string
	exe string
}

func newTestEnv(t *testing.T) *testEnv {
	t.Helper()
	w := &testEnv{t: t, dir: shellpty.NewDir(t)}
	w.exe = filepath.Join(w.dir, `it's a "bin"`, "localport")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w.mkdir(filepath.Base(filepath.Dir(w.exe)))
	if err := os.Symlink(self, w.exe); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *testEnv) mkdir(name string) string {
	w.t.Helper()
	dir := filepath.Join(w.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		w.t.Fatal(err)
	}
	return dir
}

// project creates a directory with a .localport.toml in it.
func (w *testEnv) project(name string) string {
	w.t.Helper()
	root := w.mkdir(name)
	w.write(filepath.Join(root, ".localport.toml"))
	return root
}

func (w *testEnv) write(path string) {
	w.t.Helper()
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// setLine replaces the prompt's line, as lockstate does.
func (w *testEnv) setLine(root, line string) {
	w.t.Helper()
	dir := stateDir(filepath.Dir(w.exe), root)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		w.t.Fatal(err)
	}
	temp := filepath.Join(dir, "new")
	if err := errors.Join(os.WriteFile(temp, []byte(line+"\n"), 0o600),
		os.Rename(temp, filepath.Join(dir, shellhook.PromptFile)),
		os.Symlink(line, temp), os.Rename(temp, filepath.Join(dir, shellhook.PromptLink))); err != nil {
		w.t.Fatal(err)
	}
}

// setBehaviour makes the fake localport fail with an exit code ("fail"), print its statements and end with an exit code ("refuse"), hang until a
// signal ("hang") or print a message ("say"), until clear is called.
func (w *testEnv) setBehaviour(name, text string) (clear func()) {
	w.t.Helper()
	path := filepath.Join(filepath.Dir(w.exe), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return func() { _ = os.Remove(path) }
}

// recordedExports returns all exports so far.
func (w *testEnv) recordedExports() (calls []exportCall) {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(filepath.Dir(w.exe), "calls"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // it is being written
		}
		var c exportCall
		if err := json.Unmarshal(line, &c); err != nil {
			w.t.Fatal(err)
		}
		calls = append(calls, c)
	}
	return calls
}

// countExports runs do and returns the number of exports meanwhile.
func (w *testEnv) countExports(do func()) int {
	w.t.Helper()
	before := len(w.recordedExports())
	do()
	return len(w.recordedExports()) - before
}

// expectExports fails the test unless the line runs that many exports.
func (w *testEnv) expectExports(s *shellpty.Shell, line string, want int) {
	w.t.Helper()
	if got := w.countExports(func() { s.Run(line) }); got != want {
		w.t.Errorf("%s: %d exports, want %d; on the screen:\n%s", line, got, want, s.Screen())
	}
}

// expectQuiet fails the test unless a prompt runs no export and prints nothing.
func (w *testEnv) expectQuiet(s *shellpty.Shell) {
	w.t.Helper()
	w.expectExports(s, "true", 0)
	if out := s.Output(); out != "" {
		w.t.Errorf("a prompt printed %q", out)
	}
}

// rc returns the start-up code that installs the hook.
func (w *testEnv) rc(shell string) string {
	sh, err := shellhook.Lookup(shell)
	if err != nil {
		w.t.Fatal(err)
	}
	if shell == "fish" {
		// Only Export quotes for fish.
		_, exe, _ := strings.Cut(strings.TrimSuffix(sh.Export("x", w.exe), ";\n"), "-gx x ")
		return exe + " hook fish | source\n"
	}
	if syntax, isOther := otherShells[shell]; isOther {
		return syntax.rc(w.exe)
	}
	return `eval "$(` + shellhook.Quote(w.exe) + " hook " + shell + `)"` + "\n"
}

// start starts a shell with the hook outside of any project.
func (w *testEnv) start(shell string) *shellpty.Shell {
	w.t.Helper()
	return w.startWith(shellpty.Config{Shell: shell, RC: w.rc(shell)})
}

func (w *testEnv) startWith(c shellpty.Config) *shellpty.Shell {
	w.t.Helper()
	if c.Dir == "" {
		c.Dir = w.dir
	}
	// The race detector makes a program wait for a second when it ends.
	c.Env = append(c.Env, "GORACE=atexit_sleep_ms=0")
	return shellpty.Start(w.t, c)
}

// projectOfShell returns the value of the variable that the project exports: its root.
func projectOfShell(s *shellpty.Shell) string { return s.Eval(`"$PROJECT"`) }

// eachShell runs a test in every shell, or only in those named.
func eachShell(t *testing.T, test func(t *testing.T, shell string, w *testEnv), only ...string) {
	t.Helper()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if len(only) > 0 && !slices.Contains(only, shell) {
			continue
		}
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			test(t, shell, newTestEnv(t))
		})
	}
}

func cd(dir string) string {
	if strings.Contains(dir, `\`) {
		panic("fish needs another quoting for a backslash")
	}
	return "cd " + shellhook.Quote(dir)
}
