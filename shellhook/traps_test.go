package shellhook_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/shellpty"
)

// firings counts how often each trap fires at some prompts, with and without the hook.
func firings(t *testing.T, w *testEnv, shell, rc string) map[string]int {
	t.Helper()
	root := w.project("p")
	counts := filepath.Join(shellpty.NewDir(t), "counts")
	s := w.startWith(shellpty.Config{Shell: shell, RC: strings.ReplaceAll(rc, "COUNTS", counts)})
	s.Run(cd(root))
	w.setLine(root, startProcess(t, "localport-x").line(1))
	s.Run("true")
	s.Run("sh -c 'exit 3'")
	for range 4 {
		s.Run("true")
	}
	s.Run(cd(w.dir))
	s.Run("true")
	data, err := os.ReadFile(counts)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	fired := make(map[string]int)
	for name := range strings.FieldsSeq(string(data)) {
		fired[name]++
	}
	return fired
}

// promptsOfFirings is how many prompts firings waits for, with the first one.
const promptsOfFirings = 10

func TestHook_FiresNoTrapsOfTheUser(t *testing.T) {
	// bash runs DEBUG for whatever PROMPT_COMMAND has: once, which other hooks tell from a command of the user by its text.
	for name, c := range map[string]struct {
		shell, traps string
		debug        int // further firings of DEBUG allowed at a prompt
	}{
		"bash":           {"bash", "trap 'echo ERR >>COUNTS' ERR; trap 'echo DEBUG >>COUNTS' DEBUG; trap 'echo RETURN >>COUNTS' RETURN", 1},
		"bash functrace": {"bash", "set -o errtrace; trap 'echo ERR >>COUNTS' ERR", 0},
		"bash set -E -T": {"bash", "set -ET; trap 'echo ERR >>COUNTS' ERR; trap 'echo DEBUG >>COUNTS' DEBUG", 9},
		"zsh":            {"zsh", "trap 'echo ZERR >>COUNTS' ZERR; trap 'echo DEBUG >>COUNTS' DEBUG", 0},
		"zsh functions":  {"zsh", "TRAPZERR() { echo ZERR >>COUNTS }; TRAPDEBUG() { echo DEBUG >>COUNTS }", 0},
		"zsh ERR_RETURN": {"zsh", "setopt err_return; trap 'echo ZERR >>COUNTS' ERR", 0},
	} {
		for _, order := range []string{"before", "after"} {
			t.Run(name+" "+order, func(t *testing.T) {
				t.Parallel()
				w := newTestEnv(t)
				bare := firings(t, w, c.shell, c.traps)
				rc := c.traps + "\n" + w.rc(c.shell)
				if order == "after" {
					rc = w.rc(c.shell) + c.traps
				}
				got := firings(t, w, c.shell, rc)
				if got["ERR"] != bare["ERR"] || got["ZERR"] != bare["ZERR"] || got["RETURN"] != bare["RETURN"] {
					t.Errorf("fired %v, without the hook %v", got, bare)
				}
				installing := 70 // the hook's own text is evaluated in the start-up file
				if order == "after" {
					installing = 1 // in bash, the hook is called twice at the first prompt
				}
				if more := got["DEBUG"] - bare["DEBUG"]; more > c.debug*promptsOfFirings+installing {
					t.Errorf("DEBUG fired %d times more than without the hook, in %d prompts", more, promptsOfFirings)
				}
				if calls := w.recordedExports(); len(calls) < 2 {
					t.Errorf("%d exports", len(calls))
				}
			})
		}
	}
}

// An unchanged prompt shows two lines of bash's set -x (the call and a test), and none of zsh's and fish's.
func TestHook_PrintsFewLinesUnderXtrace(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root := w.project("p")
		w.setLine(root, startProcess(t, "localport-x").line(1))
		s := w.start(shell)
		s.Run(cd(root))
		s.Run("true")
		s.Run(map[string]string{"fish": "set -g fish_trace 1"}[shell] + map[string]string{"bash": "set -x", "zsh": "set -x"}[shell])
		s.Run("true")
		var traced []string
		for line := range strings.SplitSeq(s.Screen(), "\n") {
			if strings.Contains(line, "localport") {
				traced = append(traced, line)
			}
		}
		if limit := map[string]int{"bash": 2, "zsh": 1, "fish": 3}[shell]; len(traced) > limit {
			t.Errorf("%d lines, want at most %d:\n%s", len(traced), limit, strings.Join(traced, "\n"))
		}
		w.setLine(root, "2 0 0")
		s.Run("true")
		if on := s.Eval(map[string]string{"bash": `"$-"`, "zsh": `"$-"`, "fish": `"x$fish_trace"`}[shell]); !strings.Contains(strings.TrimPrefix(on, "x"), "x") && on != "x1" {
			t.Errorf("tracing is off: %s", on)
		}
	})
}
