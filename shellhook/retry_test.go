package shellhook_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/localport-sh/localport/shellhook"
	"github.com/localport-sh/localport/testdata/shellpty"
)

// advanceClock returns a line that advances the shell's clock by some seconds. fish's clock is the age of our program.
func advanceClock(shell string, seconds int) string {
	if shell == "fish" {
		return fmt.Sprintf("set -g __localport_since (math $__localport_since - %d)", seconds)
	}
	return fmt.Sprintf("SECONDS=$((SECONDS + %d))", seconds)
}

const shortLimit = "--limit=200ms"

func TestHook_RepeatsAFailedExportWithBackoff(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root := w.project("p")
		fix := w.setBehaviour("fail", "")
		s := w.start(shell)
		w.expectExports(s, cd(root), 1)
		w.expectQuiet(s)
		for _, wait := range []int{5, 10, 15, 20} {
			w.expectExports(s, advanceClock(shell, wait-4), 0)
			w.expectExports(s, advanceClock(shell, wait), 1)
			w.expectQuiet(s)
		}
		for _, wait := range []int{25, 30, 35, 40, 45, 50, 55, 60, 60} {
			w.expectExports(s, advanceClock(shell, wait), 1)
		}
		fix()
		w.expectExports(s, advanceClock(shell, 60), 1)
		if got := projectOfShell(s); got != root {
			t.Errorf("PROJECT is %q, want %q", got, root)
		}
		calls := w.recordedExports()
		if slices.Contains(calls[0].Args, shortLimit) {
			t.Errorf("the first export has the arguments %q", calls[0].Args)
		}
		for _, call := range calls[1:] {
			if !slices.Contains(call.Args, shortLimit) {
				t.Errorf("a repeated export has the arguments %q", call.Args)
			}
		}
		w.expectExports(s, advanceClock(shell, 1000), 0) // it succeeded: there is nothing to repeat
	})
}

func TestHook_RepeatsAFailedExportOutsideAnyProject(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root := w.project("p")
		s := w.start(shell)
		s.Run(cd(root))
		defer w.setBehaviour("fail", "")()
		w.expectExports(s, cd(w.dir), 1)
		w.expectQuiet(s)
		w.expectExports(s, advanceClock(shell, 5), 1)
		w.expectQuiet(s)
	})
}

func TestHook_DoesNotRepeatADefinitiveFailure(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root := w.project("p")
		defer w.setBehaviour("fail", "4")() // the exit code of a project that is not allowed
		s := w.start(shell)
		w.expectExports(s, cd(root), 1)
		w.expectExports(s, advanceClock(shell, 100), 0)
	})
}

// Each edit is another reason for an export, also if none of the prompts between finds everything unchanged: the user edits a file, sees what
// is wrong with it, and edits it again.
func TestHook_ExportsOnceForEachOfSeveralEditsInARow(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "elvish", "nu", "tcsh"} {
		for _, code := range []string{"0", "3", "4"} { // resolved; invalid; not allowed
			for _, name := range []string{".localport.toml", ".localport.local.toml", ".env"} {
				t.Run(strings.Join([]string{shell, code, name}, " "), func(t *testing.T) {
					t.Parallel()
					w := newTestEnv(t)
					root, enter, noop := w.project("p"), "", "true"
					enter = cd(root)
					if syntax, isOther := otherShells[shell]; isOther {
						enter, noop = syntax.cd(root), syntax.noop
					}
					s := w.start(shell)
					w.expectExports(s, enter, 1)
					defer w.setBehaviour("refuse", code)()
					for i := range 6 {
						text := strings.Repeat("# edited\n", i+1)
						if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
							t.Fatal(err)
						}
						w.expectExports(s, noop, 1)
					}
					w.expectExports(s, noop, 0)
				})
			}
		}
	}
}

func TestHook_ExportsAgainWhenADirectoryIsBack(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root := w.project("p")
		fix := w.setBehaviour("fail", "4")
		s := w.start(shell)
		w.expectExports(s, cd(root), 1)
		if err := os.Rename(root, root+".away"); err != nil {
			t.Fatal(err)
		}
		w.expectExports(s, ":", 1)
		w.expectQuiet(s)
		fix()
		if err := os.Rename(root+".away", root); err != nil {
			t.Fatal(err)
		}
		w.expectExports(s, ":", 1)
		if got := projectOfShell(s); got != root {
			t.Errorf("PROJECT is %q, want %q", got, root)
		}
	})
}

func TestHook_StartsNoProcessBeforeARetryIsDue(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		tr := newTrace(t)
		root := w.project("p")
		defer w.setBehaviour("fail", "")()
		s := w.startWith(shellpty.Config{Shell: shell, RC: w.rc(shell), Wrap: tr.wrap()})
		s.Run(cd(root))
		before := len(tr.processes())
		s.Run("true")
		s.Run("true")
		if got := tr.processes()[before:]; len(got) != 0 {
			t.Errorf("it started processes:\n%s", strings.Join(got, "\n"))
		}
	})
}

// A shell with an older hook evaluates the new one, which must set the variables that the older one lacks.
func TestHook_ReplacesAnOlderHook(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root := w.project("p")
		s := w.start(shell)
		s.Run(cd(root))
		unsetVariables := map[string]string{"fish": "set -e -g __localport_wait __localport_retry __localport_since"}[shell]
		if unsetVariables == "" {
			unsetVariables = "unset __localport_wait __localport_retry __localport_since"
		}
		s.Run(unsetVariables + "; " + strings.TrimSpace(w.rc(shell)))
		w.expectQuiet(s)
		w.setLine(root, "1 0 0")
		w.expectExports(s, "true", 1)
		if out := s.Output(); out != "" {
			t.Errorf("printed %q", out)
		}
	})
}

func TestHook_PassesRetryBack(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		const retry = `{"left":["/a 'b' \"c\""]}`
		sh, err := shellhook.Lookup(shell)
		if err != nil {
			t.Fatal(err)
		}
		root := w.project("p")
		s := w.start(shell)
		path := w.dir + "/set"
		if err := os.WriteFile(path, []byte(sh.Set(shellhook.RetryVariable, retry)), 0o600); err != nil {
			t.Fatal(err)
		}
		s.Run("source " + path)
		s.Run(cd(root))
		if calls := w.recordedExports(); len(calls) != 1 || calls[0].Retry != retry {
			t.Errorf("exports: %+v", calls)
		}
	})
}
