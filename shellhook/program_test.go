package shellhook_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/shellpty"
)

// move moves the fake localport to a directory, as an upgrade by a package manager does, with what it has recorded.
func (w *testEnv) move(dir string) {
	w.t.Helper()
	if err := os.Rename(filepath.Dir(w.exe), dir); err != nil {
		w.t.Fatal(err)
	}
	w.exe = filepath.Join(dir, "localport")
}

// unsetProject is the command that the hint gives for the project's variables.
var unsetProject = map[string]string{
	"bash": "unset -v PROJECT LOCALPORT_DIFF", "zsh": "unset -v PROJECT LOCALPORT_DIFF", "fish": "set -e PROJECT LOCALPORT_DIFF",
}

func TestHook_SaysOnceThatTheProgramIsGone(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		tr := newTrace(t)
		root, other := w.project("p"), w.mkdir("other")
		bin := filepath.Join(w.dir, "bin")
		s := w.startWith(shellpty.Config{
			Shell: shell, RC: w.rc(shell), Wrap: tr.wrap(), Env: []string{"PATH=.:" + bin + ":" + os.Getenv("PATH")},
		})
		s.Run(cd(root))
		w.move(filepath.Join(w.dir, "old"))

		before := len(tr.processes())
		s.Run("cd ..")
		out := s.Output()
		for _, want := range []string{"localport: cannot run ", "PATH has no localport: this shell keeps the variables and forwards of " + root, "\nhint: ", unsetProject[shell] + "; "} {
			if !strings.Contains(out, want) {
				t.Errorf("leaving printed %q, want %q", out, want)
			}
		}
		for _, line := range []string{"true", cd(root), cd(filepath.Join(w.dir, "old")), cd(other), "true"} { // . is in PATH
			if s.Run(line); s.Output() != "" {
				t.Errorf("%s printed %q", line, s.Output())
			}
		}
		if got := tr.processes()[before:]; len(got) != 0 {
			t.Errorf("without a program, prompts started processes:\n%s", strings.Join(got, "\n"))
		}
		if got := projectOfShell(s); got != root {
			t.Errorf("PROJECT is %q, want %q", got, root)
		}
		s.Run(unsetProject[shell])
		if env := s.Environ(); env["PROJECT"] != "" || env["LOCALPORT_DIFF"] != "" {
			t.Errorf("after the command of the hint PROJECT is %q and LOCALPORT_DIFF %q", env["PROJECT"], env["LOCALPORT_DIFF"])
		}

		w.move(bin) // a directory of PATH
		w.expectExports(s, "true", 1)
		if calls := w.recordedExports(); calls[len(calls)-1].Root != root || calls[len(calls)-1].Args[len(calls[len(calls)-1].Args)-1] == shortLimit {
			t.Errorf("the export was %q", calls[len(calls)-1].Args)
		}
		w.expectQuiet(s)
		w.expectExports(s, cd(root), 1)

		w.move(filepath.Join(w.dir, "old2"))
		if s.Run(cd(other)); !strings.Contains(s.Output(), "cannot run ") {
			t.Errorf("when the program was gone again, leaving printed %q", s.Output())
		}
	})
}

func TestHook_SaysThatNoServiceIsStartedWithoutTheProgram(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root := w.project("p")
		s := w.start(shell)
		w.expectQuiet(s)
		if err := os.Remove(w.exe); err != nil {
			t.Fatal(err)
		}
		s.Run(cd(root))
		if out := s.Output(); strings.Count(out, "cannot run ") != 1 || !strings.Contains(out, "the services of this directory are not started\nhint: ") {
			t.Errorf("entering printed %q", out)
		}
		for _, line := range []string{"true", "cd ..", "true"} {
			if s.Run(line); s.Output() != "" {
				t.Errorf("%s printed %q", line, s.Output())
			}
		}
	})
}

// The path that the hook was installed with takes precedence when the program is back.
func TestHook_PrefersThePathThatItWasInstalledWith(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root := w.project("p")
		installed := filepath.Dir(w.exe)
		bin := filepath.Join(w.dir, "bin")
		s := w.startWith(shellpty.Config{Shell: shell, RC: w.rc(shell), Env: []string{"PATH=" + bin + ":" + os.Getenv("PATH")}})
		w.move(bin)
		w.expectExports(s, cd(root), 1)
		w.move(installed)
		w.expectExports(s, cd(w.dir), 1)
		if got := projectOfShell(s); got != "" {
			t.Errorf("PROJECT is %q", got)
		}
		w.expectQuiet(s)
	})
}
