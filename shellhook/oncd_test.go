package shellhook_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/shellpty"
)

// onCdRC returns the start-up code that installs the hook with --on-cd.
func (w *testEnv) onCdRC(shell string) string {
	return strings.ReplaceAll(w.rc(shell), "hook "+shell, "hook "+shell+" --on-cd")
}

func TestHook_OnCdEntersBeforeTheNextCommand(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root := w.project("p")
		w.mkdir("p/sub")
		s := w.startWith(shellpty.Config{Shell: shell, RC: w.onCdRC(shell)})
		assign := map[string]string{"bash": "then=$PROJECT", "zsh": "then=$PROJECT", "fish": "set then $PROJECT"}[shell]
		for _, c := range []struct {
			line, want string
			exports    int
		}{
			{cd(root) + " && " + assign, root, 1},
			{"cd sub && " + assign, root, 0},
			{cd(w.dir) + " && " + assign, "", 1},
			{"pushd p >/dev/null && " + assign, root, 1},
			{"popd >/dev/null && " + assign, "", 1},
			{"cd p && cd .. && " + assign, "", 2},
		} {
			w.expectExports(s, c.line, c.exports)
			if got := s.Eval(`"$then"`); got != c.want {
				t.Errorf("%s: PROJECT was %q, want %q", c.line, got, c.want)
			}
			w.expectQuiet(s)
		}
	})
}

// The functions behave like the builtins.
func TestHook_BashOnCdKeepsStatusAndOutput(t *testing.T) {
	lines := []string{
		"cd nowhere", "cd p", "cd -", "cd a b", "cd deep", "CDPATH=$PWD/..; cd p; echo $OLDPWD; CDPATH=", "cd ~; cd - >/dev/null; echo $?; dirs",
		"pushd /", "pushd -n /tmp", "popd", "popd", "popd +9", "cd -P .; echo $? $_", "shopt -s autocd; ./../p", "cd '' ; echo $?", "(cd /; pwd)", "x=$(cd /; pwd); echo $x",
	}
	w := newTestEnv(t)
	w.project("p")
	w.mkdir("p/deep")
	run := func(rc string) (outputs []string) {
		s := w.startWith(shellpty.Config{Shell: "bash", RC: "trap 'echo ERR' ERR\n" + rc, Home: w.dir})
		for _, line := range lines {
			s.Run(line)
			outputs = append(outputs, line+": "+s.Output()+s.Eval(`" $? $PWD"`))
		}
		return outputs
	}
	bare, wrapped := run(""), run(w.onCdRC("bash"))
	for i := range bare {
		if bare[i] != wrapped[i] {
			t.Errorf("%q, without the hook %q", wrapped[i], bare[i])
		}
	}
}

func TestHook_BashOnCdCountsAtTheTopLevelOnly(t *testing.T) {
	w := newTestEnv(t)
	root := w.project("p")
	s := w.startWith(shellpty.Config{Shell: "bash", RC: w.onCdRC("bash") + "f() { cd \"$1\" && then=$PROJECT; }\n"})
	for _, line := range []string{
		"(cd p && :)", "x=$(cd p)", "cd p | :", "bash -c 'cd p && :'", "f p; then=$then; builtin cd " + w.dir,
	} {
		w.expectExports(s, line, 0)
	}
	script := filepath.Join(w.dir, "script")
	if err := os.WriteFile(script, []byte("cd "+root+"\nthen=$PROJECT\ncd "+w.dir+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.expectExports(s, ". "+script, 0)
	if got := s.Eval(`"$then"`); got != "" {
		t.Errorf("in a function or a script PROJECT was %q", got)
	}
	if out := s.Run("bash -c 'declare -F cd'"); out == 0 {
		t.Error("the function is inherited")
	}
}

func TestHook_BashOnCdLeavesFunctionsOfTheUser(t *testing.T) {
	w := newTestEnv(t)
	root := w.project("p")
	mine := "cd() { builtin cd \"$@\" && mine=$PROJECT; }\n"
	s := w.startWith(shellpty.Config{Shell: "bash", RC: mine + w.onCdRC("bash") + w.onCdRC("bash")})
	if out := s.Screen(); strings.Count(out, "localport: cd is a function of yours and stays as it is") != 1 || strings.Contains(out, "pushd") {
		t.Errorf("starting printed %q", out)
	}
	w.expectExports(s, cd(root), 1)
	if got := s.Eval(`"$mine"`); got != "" || projectOfShell(s) != root {
		t.Errorf("PROJECT was %q right after cd, and is %q", got, projectOfShell(s))
	}
	w.expectExports(s, "pushd / >/dev/null && mine=$PROJECT", 1)

	// An alias is no function.
	s = w.startWith(shellpty.Config{Shell: "bash", RC: "shopt -s expand_aliases; alias cd='cd -P' pushd=false\n" + w.onCdRC("bash")})
	if out := s.Screen(); strings.TrimSpace(out) != "[1]>" {
		t.Errorf("starting printed %q", out)
	}
	w.expectExports(s, "cd p && then=$PROJECT", 1)
	if got := s.Eval(`"$then"`); got != root {
		t.Errorf("with an alias PROJECT was %q", got)
	}
}

func TestHook_BashOnCdIsIndependentOfTheUsersOptions(t *testing.T) {
	for _, options := range []string{"set -eu", "set -a", "set -o posix", "IFS=_/p", "set -ETu; trap : DEBUG ERR", "set -f; set -o noclobber"} {
		t.Run(options, func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t)
			root := w.project("p")
			s := w.startWith(shellpty.Config{Shell: "bash", RC: options + "\n" + w.onCdRC("bash")})
			w.expectExports(s, "cd p && then=$PROJECT", 1)
			if got := s.Eval(`"$then"`); got != root {
				t.Errorf("PROJECT was %q", got)
			}
			w.expectQuiet(s)
			for name := range s.Environ() {
				if strings.Contains(name, "__localport") || strings.Contains(name, "BASH_FUNC") {
					t.Errorf("exported: %s", name)
				}
			}
		})
	}
}

// At a cd, another hook may set the variables later.
func TestHook_BashOnCdLooksAgainAtThePrompt(t *testing.T) {
	w := newTestEnv(t)
	root := w.project("p")
	s := w.startWith(shellpty.Config{Shell: "bash", RC: w.onCdRC("bash")})
	w.expectExports(s, cd(root)+"; __localport_recheck=1", 2)
	calls := w.recordedExports()
	if at, later := strings.Join(calls[0].Args, " "), strings.Join(calls[1].Args, " "); !strings.Contains(at, "--cd") || strings.Contains(later, "--cd") {
		t.Errorf("the exports are %q and %q", at, later)
	}
}

func TestHook_BashOnCdStartsNoProcess(t *testing.T) {
	w := newTestEnv(t)
	tr := newTrace(t)
	root := w.project("p")
	w.mkdir("p/sub")
	s := w.startWith(shellpty.Config{Shell: "bash", RC: w.onCdRC("bash"), Wrap: tr.wrap()})
	s.Run(cd(root))
	before := len(tr.processes())
	for _, line := range []string{"cd sub", "cd .. && true", "pushd sub >/dev/null", "popd >/dev/null", "true"} {
		s.Run(line)
	}
	if got := tr.processes()[before:]; len(got) != 0 {
		t.Errorf("it started processes:\n%s", strings.Join(got, "\n"))
	}
}
