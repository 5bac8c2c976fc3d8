package shellhook_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/shellpty"
)

func TestHook_KeepsTheExitStatus(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root := w.project("p")
		s := w.start(shell)
		s.Run(cd(root))
		if got := s.Run("sh -c 'exit 42'"); got != 42 {
			t.Errorf("at an unchanged prompt the status was %d, want 42", got)
		}
		w.setLine(root, "1 0 0")
		if got := s.Run("sh -c 'exit 43'"); got != 43 {
			t.Errorf("at a prompt that ran export the status was %d, want 43", got)
		}
		if got := s.Run("cd ..; sh -c 'exit 44'"); got != 44 {
			t.Errorf("after a cd the status was %d, want 44", got)
		}
	})
}

// Every hook of these start-up files records the exit status that it sees.
func TestHook_KeepsOtherHooksAndRunsOnce(t *testing.T) {
	const note = `note() { local s=$?; noted="${noted-}$1:$s "; return $s; }` + "\n"
	for name, c := range map[string]struct{ shell, before, after, want string }{
		"string":         {"bash", `PROMPT_COMMAND="note a; note b"`, ``, "a:7 b:7 "},
		"array":          {"bash", `PROMPT_COMMAND=("note a" "note b")`, ``, "a:7 b:7 "},
		"later string":   {"bash", ``, `PROMPT_COMMAND="note a;$PROMPT_COMMAND;note b"`, "a:7 b:7 "},
		"later array":    {"bash", ``, `PROMPT_COMMAND+=("note a" "note b")`, "a:7 b:7 "},
		"bash-preexec":   {"bash", bashPreexec + "precmd_functions=(a)", ``, "a:7 b:7 "},
		"preexec later":  {"bash", ``, "precmd_functions=(a); " + bashPreexec, "a:7 b:7 "},
		"precmd":         {"zsh", `precmd() { note a; }; precmd_functions=(b)`, ``, "a:7 b:7 "},
		"precmd later":   {"zsh", ``, `precmd() { note a; }; precmd_functions+=(b)`, "a:7 b:7 "},
		"KSH_ARRAYS":     {"zsh", `setopt ksh_arrays; precmd_functions=(a b)`, ``, "a:7 b:7 "},
		"event handlers": {"fish", fishNote, ``, "a:7 "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t)
			root := w.project("p")
			rc := note + "a() { note a; }; b() { note b; }\n" + c.before + "\n" + w.rc(c.shell) + w.rc(c.shell) + c.after
			if c.shell == "fish" {
				rc = c.before + "\n" + w.rc(c.shell) + w.rc(c.shell)
			}
			s := w.startWith(shellpty.Config{Shell: c.shell, RC: rc})
			s.Run(map[string]string{"fish": "set -g noted"}[c.shell] + map[string]string{"bash": "noted=", "zsh": "noted="}[c.shell])
			s.Run("sh -c 'exit 7'")
			if got := s.Eval(`"$noted"`); !strings.Contains(got, c.want) || strings.Count(got, ":7") != strings.Count(c.want, ":7") {
				t.Errorf("the other hooks noted %q, want %q once", got, c.want)
			}
			w.expectExports(s, cd(root), 1)
			if got := projectOfShell(s); got != root {
				t.Errorf("PROJECT is %q, want %q", got, root)
			}
			w.setLine(root, "1 0 0")
			w.expectExports(s, "true", 1)
		})
	}
}

// bashPreexec sets up its functions like bash-preexec: it passes them the exit status, and keeps the hooks that it finds.
const bashPreexec = `
bash_preexec_imported=defined
preexec_invoke() {
  preexec_status=$?
  local f
  for f in "${precmd_functions[@]}"; do (exit $preexec_status) || :; preexec_set $preexec_status; "$f"; done
  note b
}
preexec_set() { return "$1"; }
PROMPT_COMMAND="preexec_invoke${PROMPT_COMMAND:+
$PROMPT_COMMAND}"
`

const fishNote = `function note --on-event fish_prompt; set -g noted "$noted""a:$status "; end`

func TestHook_IsIndependentOfTheUsersOptions(t *testing.T) {
	optionsByName := map[string]string{
		"bash set -eu":      "set -euo pipefail",
		"bash noclobber":    "set -o noclobber; shopt -s nullglob failglob nocasematch extglob dotglob",
		"bash allexport":    "set -a",
		"bash IFS":          "IFS='/0123456789. l'",
		"bash noglob posix": "set -f; set -o posix",
		"bash aliases": "shopt -s expand_aliases; alias read='false' local='false' return='false' eval='false' " +
			"builtin='false' export='false' unset='false' set='false' kill='false' break='false'; test() { false; }; " +
			"read() { false; }; eval() { false; }; command() { false; }; [() { false; }; cd() { builtin cd \"$@\"; }",
		"bash set -ETuf":  "set -ETuf -o pipefail; shopt -s extglob lastpipe checkwinsize; trap : DEBUG ERR",
		"bash forwarding": `builtin() { command builtin "$@"; }; shopt -s expand_aliases; alias cd="cd -P"`,
		"bash -e posix":   "set -eu -o posix; IFS=_",
		"zsh NO_UNSET":    "setopt ksh_arrays sh_word_split no_unset warn_create_global warn_nested_var err_return; IFS=_; alias cd='cd -P'",
		"fish universal":  "set -U PROJECT mine; set -U TOKEN mine; set -U __localport_other x; alias cd='builtin cd'",
		"zsh options": "setopt ksh_arrays sh_word_split no_unset glob_subst no_clobber all_export rc_quotes " +
			"ignore_braces sh_glob ksh_glob warn_create_global no_equals csh_nullglob typeset_silent " +
			"posix_builtins ksh_typeset rc_expand_param",
		"zsh ERR_EXIT": "setopt err_exit err_return",
		"zsh IFS":      "IFS='/0123456789. l'",
		"zsh aliases": "alias read=false local=false typeset=false return=false eval=false builtin=false export=false " +
			"unset=false if=false; alias -g p=false; read() { false }; eval() { false }; cd() { builtin cd $@ }",
		"fish functions": "function cd; builtin cd $argv; end; function source; false; end; function math; false; end; " +
			"function count; false; end; function contains; false; end; function kill; false; end; " +
			"function echo; false; end; function printf; false; end; set -g IFS 0123456789",
	}
	for name, options := range optionsByName {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shell, _, _ := strings.Cut(name, " ")
			w := newTestEnv(t)
			root := w.project("it's 10 p")
			w.write(filepath.Join(root, ".env"))
			alive := startProcess(t, "localport-x")
			w.setLine(root, alive.line(10))
			// The line that installs the hook is the user's own: it says which eval and source it means.
			rc := options + "\n" + w.rc(shell) + w.rc(shell)
			rc = strings.NewReplacer("eval \"", `\builtin eval "`, "| source", "| builtin source").Replace(rc)
			s := w.startWith(shellpty.Config{Shell: shell, RC: rc})
			if out := s.Screen(); strings.TrimSpace(out) != "[1]>" {
				t.Errorf("starting printed %q", out)
			}
			w.expectExports(s, cd(root), 1)
			w.expectQuiet(s)
			if got := projectOfShell(s); got != root {
				t.Errorf("PROJECT is %q, want %q", got, root)
			}
			w.setLine(root, "11 0 0")
			w.expectExports(s, "true", 1)
			w.expectExports(s, "cd ..", 1)
			s.Run("! true")
			w.expectQuiet(s)
			for _, env := range append(recordedEnvironments(w), environOf(s)) {
				for entry := range env {
					if strings.Contains(entry, "__localport") {
						t.Errorf("exported: %s=%s", entry, env[entry])
					}
				}
			}
		})
	}
}

// recordedEnvironments returns the environments of the recorded exports.
func recordedEnvironments(w *testEnv) (envs []map[string]string) {
	for _, c := range w.recordedExports() {
		env := make(map[string]string)
		for _, entry := range c.Env {
			name, value, _ := strings.Cut(entry, "=")
			env[name] = value
		}
		envs = append(envs, env)
	}
	return envs
}

func environOf(s *shellpty.Shell) map[string]string { return s.Environ() }

func TestHook_DoesNotRunInSubshells(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root := w.project("p")
		s := w.start(shell)
		w.expectExports(s, "(cd "+root+"; true)", 0)
		w.expectExports(s, "x=$(cd "+root+"; pwd); true", 0)
		w.expectExports(s, "cd "+root+" | true", 0)
		if got := projectOfShell(s); got != "" {
			t.Errorf("PROJECT is %q", got)
		}
		w.expectQuiet(s)
	}, "bash", "zsh") // fish has no subshells: a cd in (…) or a pipe is the shell's own
}

func TestHook_DoesNotAffectScripts(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root := w.project("p")
		s := w.start(shell)
		script := filepath.Join(w.dir, "script")
		text := w.rc(shell) + "cd " + root + "\ncd /\ncd " + root + "\n" + shellArgs[shell].print + "\n"
		if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		w.expectExports(s, shell+" "+script, 0)
		if out := s.Output(); out != "it ran" {
			t.Errorf("the script printed %q", out)
		}
	})
}

var shellArgs = map[string]struct{ print, names string }{
	"bash": {"echo it ran", "{ compgen -v; compgen -A function; shopt; shopt -o; trap; } >%s"},
	"zsh":  {"echo it ran", "{ print -l ${(ko)parameters} ${(ko)functions}; setopt; trap; } >%s"},
	"fish": {"echo it ran", "begin; set -n; functions -an; trap; end >%s"},
}

// shellNames returns the variables, functions, options and traps of a shell after it entered and left a project.
func shellNames(t *testing.T, w *testEnv, shell, rc string) []string {
	t.Helper()
	root := w.project("p")
	s := w.startWith(shellpty.Config{Shell: shell, RC: rc})
	for _, line := range []string{cd(root), "true", cd(w.dir), "true"} {
		s.Run(line)
	}
	path := filepath.Join(shellpty.NewDir(t), "names")
	s.Run(strings.ReplaceAll(shellArgs[shell].names, "%s", path))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(data), "\n")
}

func TestHook_LeavesOnlyItsOwnNames(t *testing.T) {
	sharedNames := map[string][]string{
		"bash": nil, "zsh": {"precmd_functions", "chpwd_functions"}, "fish": nil,
	}
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		traps := map[string]string{"bash": "trap 'echo x' INT EXIT USR1 DEBUG\n", "zsh": "trap 'echo x' INT USR1\n"}[shell]
		namesBefore := shellNames(t, w, shell, traps)
		namesAfter := shellNames(t, w, shell, traps+w.rc(shell))
		for _, name := range namesAfter {
			if !slices.Contains(namesBefore, name) && !strings.HasPrefix(name, "__localport_") && !slices.Contains(sharedNames[shell], name) {
				t.Errorf("left in the shell: %q", name)
			}
		}
		for _, name := range namesBefore {
			if !slices.Contains(namesAfter, name) {
				t.Errorf("gone from the shell: %q", name)
			}
		}
	})
}

func TestHook_EvaluatedAgainKeepsItsState(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root := w.project("p")
		s := w.start(shell)
		s.Run(cd(root))
		w.expectExports(s, strings.TrimSpace(w.rc(shell)), 0)
		w.expectQuiet(s)
		if got := projectOfShell(s); got != root {
			t.Errorf("PROJECT is %q, want %q", got, root)
		}
	})
}

// Variables inherited from a parent shell are not used.
func TestHook_IgnoresVariablesFromTheEnvironment(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root := w.project("p")
		leaked := map[string]string{"__localport_root": root, "__localport_pwd": root, "__localport_shell": "1", "__localport_told": "9"}
		var env []string
		for _, name := range slices.Sorted(maps.Keys(leaked)) {
			env = append(env, name+"="+leaked[name])
		}
		s := w.startWith(shellpty.Config{Shell: shell, RC: w.rc(shell), Env: env, Dir: root})
		calls := w.recordedExports()
		if len(calls) != 1 || calls[0].Root != "" || calls[0].Told != "" {
			t.Errorf("exports with inherited bookkeeping: %+v", calls)
		}
		for name := range s.Environ() {
			if strings.HasPrefix(name, "__localport_") {
				t.Errorf("%s is still exported", name)
			}
		}
	})
}

func TestHook_ExportIsNotAJob(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root := w.project("p")
		s := w.start(shell)
		for range 3 {
			s.Run(cd(root))
			if out := s.Output(); out != "" {
				t.Errorf("entering printed %q", out)
			}
			s.Run("jobs")
			if out := s.Output(); out != "" && !strings.Contains(out, "There are no jobs") {
				t.Errorf("jobs printed %q", out)
			}
			s.Run("cd ..")
			if out := s.Output(); out != "" {
				t.Errorf("leaving printed %q", out)
			}
		}
	})
}
