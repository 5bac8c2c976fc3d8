package shellhook_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/shellpty"
)

// As when git pull brings a config.
func TestHook_EntersAProjectThatAppearsAboveOrBetween(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		deep, middle, top := w.mkdir("a/b/c/d"), filepath.Join(w.dir, "a/b"), filepath.Join(w.dir, "a")
		s := w.start(shell)
		w.expectExports(s, cd(deep), 0)
		w.expectQuiet(s)
		step := func(what, line string, do func(), want string) {
			t.Helper()
			do()
			w.expectExports(s, line, 1)
			if got := projectOfShell(s); got != want {
				t.Errorf("%s: PROJECT is %q, want %q", what, got, want)
			}
			w.expectQuiet(s)
			w.expectQuiet(s)
		}
		appear := func(dir string) func() { return func() { w.write(filepath.Join(dir, ".localport.toml")) } }
		vanish := func(dir string) func() {
			return func() {
				if err := os.Remove(filepath.Join(dir, ".localport.toml")); err != nil {
					t.Fatal(err)
				}
			}
		}
		step("above", "true", appear(top), top)
		step("between", "true", appear(middle), middle)
		step("gone between", "true", vanish(middle), top)
		step("between again", "true", appear(middle), middle)
		step("here", "true", appear(deep), deep)
		step("gone here", "true", vanish(deep), middle)
		step("gone between again", "true", vanish(middle), top)
		step("gone above", "true", vanish(top), "")
		step("above again, and cd in one line", "cd ..; cd d", appear(top), top)
		appear(w.dir)()
		w.expectQuiet(s) // the nearest one counts
		step("further above", "true", vanish(top), w.dir)
		if err := errors.Join(os.Remove(filepath.Join(w.dir, ".localport.toml"))); err != nil {
			t.Fatal(err)
		}
		w.expectExports(s, "true", 1)
		w.expectQuiet(s)
	})
}

// A config that cannot be entered is not tried again at each prompt, and counts when that has succeeded.
func TestHook_RepeatsEnteringAProjectThatAppeared(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root, sub := w.mkdir("p"), w.mkdir("p/a/b")
		s := w.start(shell)
		s.Run(cd(sub))
		fix := w.setBehaviour("fail", "")
		w.project("p")
		w.expectExports(s, "true", 1)
		w.expectQuiet(s)
		fix()
		w.expectExports(s, advanceClock(shell, 5), 1)
		if got := projectOfShell(s); got != root {
			t.Errorf("PROJECT is %q, want %q", got, root)
		}
		w.expectQuiet(s)
	})
}

func TestHook_LooksAboveWithoutAProcess(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		tr := newTrace(t)
		root, sub, other := w.project("p"), w.mkdir("p/a/b/c"), w.mkdir("other/a/b/c")
		s := w.startWith(shellpty.Config{Shell: shell, RC: w.rc(shell), Wrap: tr.wrap()})
		for _, dir := range []string{sub, other} {
			s.Run(cd(dir))
			before := len(tr.processes())
			for _, line := range []string{"true", "cd ..", "true", "cd c; cd ..", "true"} {
				s.Run(line)
			}
			if got := tr.processes()[before:]; len(got) != 0 {
				t.Errorf("below %s it started processes:\n%s", root, strings.Join(got, "\n"))
			}
		}
	})
}
