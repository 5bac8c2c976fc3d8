package shellhook_test

import (
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/shellpty"
)

// noteStatus is start-up text for bash: a prompt hook that notes what a prompt like starship's shows: $?, PIPESTATUS and $_.
const noteStatus = `note() { noted="$? ${PIPESTATUS[*]} $1"; }
starship_precmd() { noted="$? ${PIPESTATUS[*]}"; eval "${starship_user-}"; }
`

// Other prompt hooks see the same as in a shell without this one, whatever the order in the start-up file.
func TestHook_BashKeepsWhatLaterPromptsShow(t *testing.T) {
	// How starship.bash installs itself: it takes over a string, and older versions append to it.
	const starship = `if [[ -z $PROMPT_COMMAND ]]; then PROMPT_COMMAND=starship_precmd
		else starship_user=$PROMPT_COMMAND; PROMPT_COMMAND=starship_precmd; fi`
	const oldStarship = `if [[ -z $PROMPT_COMMAND ]]; then PROMPT_COMMAND=starship_precmd; else PROMPT_COMMAND="${PROMPT_COMMAND%;};starship_precmd;"; fi`
	for name, c := range map[string]struct{ before, after string }{
		"string":             {before: `PROMPT_COMMAND='note "$_"'`},
		"exported":           {before: `export PROMPT_COMMAND='note "$_"; '`},
		"string and comment": {before: `PROMPT_COMMAND='note "$_" # x'`},
		"array":              {before: `PROMPT_COMMAND=('x=1' 'note "$_"')`},
		"prepended":          {after: `PROMPT_COMMAND='note "$_"'"${PROMPT_COMMAND:+;$PROMPT_COMMAND}"`},
		"appended":           {after: `PROMPT_COMMAND="${PROMPT_COMMAND:+$PROMPT_COMMAND;}"'note "$_"'`},
		"appended element":   {after: `PROMPT_COMMAND+=('note "$_"')`},
		"starship":           {before: starship},
		"starship later":     {after: starship},
		"old starship":       {before: oldStarship},
		"old starship later": {after: oldStarship},
		"set -eETu":          {before: `set -ETu; PROMPT_COMMAND='note "$_"'`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t)
			root := w.project("p")
			noted := func(hook string) (values []string) {
				s := w.startWith(shellpty.Config{Shell: "bash", RC: noteStatus + c.before + "\n" + hook + c.after})
				for _, line := range []string{"false | true | sh -c 'exit 3' last", cd(root), ": one two", cd(w.dir), "false", "true | false"} {
					s.Run(line)
					values = append(values, s.Eval(`"$noted"`))
					s.Run("sh -c 'exit 5' x | sh -c 'exit 6' y")
					values = append(values, s.Eval(`"$? $noted"`))
				}
				return values
			}
			bare := noted("")
			if got := noted(w.rc("bash") + w.rc("bash")); strings.Join(got, "\n") != strings.Join(bare, "\n") {
				t.Errorf("with the hook other hooks see\n%q\nwithout it\n%q", got, bare)
			}
			if calls := w.recordedExports(); len(calls) != 2 {
				t.Errorf("%d exports, want 2", len(calls))
			}
		})
	}
}

// The hook is the last element of PROMPT_COMMAND, once, and does not write to it at each prompt.
func TestHook_BashIsTheLastElementOnce(t *testing.T) {
	for name, c := range map[string]struct{ before, after, want string }{
		"unset":            {"", "", `[0]="shellpty_report" [1]="__localport_prompt"`},
		"string":           {"PROMPT_COMMAND='a;b'", "", `[0]="a;b" [1]="shellpty_report" [2]="__localport_prompt"`},
		"direnv later":     {"", `PROMPT_COMMAND="_direnv_hook${PROMPT_COMMAND:+;$PROMPT_COMMAND}"`, `[0]="_direnv_hook" [1]="shellpty_report" [2]="__localport_prompt"`},
		"element later":    {"", "PROMPT_COMMAND+=(a)", `[0]="a" [1]="shellpty_report" [2]="__localport_prompt"`},
		"mise later":       {"", `PROMPT_COMMAND=(_mise_hook "${PROMPT_COMMAND[@]}")`, `[0]="_mise_hook" [1]="shellpty_report" [2]="__localport_prompt"`},
		"replaced later":   {"", "PROMPT_COMMAND=a", `[0]="a" [1]="shellpty_report" [2]="__localport_prompt"`},
		"extended later":   {"", `PROMPT_COMMAND="a; $PROMPT_COMMAND; b"`, `[0]=$'a\n b' [1]="shellpty_report" [2]="__localport_prompt"`},
		"called by others": {"", `PROMPT_COMMAND=('wrapped __localport_prompt'); wrapped() { "$@"; }`, `[0]=$'wrapped __localport_prompt\nshellpty_report'`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t)
			functions := "a() { :; }; b() { :; }; _direnv_hook() { :; }; _mise_hook() { :; }\n"
			s := w.startWith(shellpty.Config{Shell: "bash", RC: functions + c.before + "\n" + w.rc("bash") + c.after})
			s.Run(strings.TrimSpace(w.rc("bash")))
			s.Run("true")
			if got := s.Eval(`"$(declare -p PROMPT_COMMAND)"`); got != "declare -a PROMPT_COMMAND=("+c.want+")" {
				t.Errorf("%s, want %s", got, c.want)
			}
			w.expectExports(s, cd(w.project("p")), 1)
		})
	}
}

// PROMPT_COMMAND=… replaces the first element of the array only.
func TestHook_BashSurvivesThatPromptCommandIsReplaced(t *testing.T) {
	w := newTestEnv(t)
	root := w.project("p")
	s := w.start("bash")
	s.Run("PROMPT_COMMAND=('' __localport_prompt); PROMPT_COMMAND=shellpty_report") // as without the test's own element
	w.expectExports(s, cd(root), 1)
	s.Run("PROMPT_COMMAND=shellpty_report")
	w.expectExports(s, cd(w.dir), 1)
	if got := s.Eval(`"$(declare -p PROMPT_COMMAND)"`); got != `declare -a PROMPT_COMMAND=([0]="shellpty_report" [1]="__localport_prompt")` {
		t.Error(got)
	}
}

func TestHook_BashSaysOnceThatPromptCommandIsReadOnly(t *testing.T) {
	w := newTestEnv(t)
	rc := "shellpty_number=0; PROMPT_COMMAND=shellpty_report; readonly PROMPT_COMMAND\n"
	s := w.startWith(shellpty.Config{Shell: "bash", RC: rc + w.rc("bash") + w.rc("bash") + "if false; then :" + "\n:; fi; return\n"})
	want := "localport: the hook is not installed: PROMPT_COMMAND is read-only\n" +
		`hint: in the start-up file, move the line with "localport hook" before the one that makes PROMPT_COMMAND read-only` + "\n[1]> "
	if got := s.Screen(); got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	s.Run(strings.TrimSpace(w.rc("bash")))
	if out := s.Output(); out != "" {
		t.Errorf("evaluating the hook again printed %q", out)
	}
	w.expectExports(s, cd(w.project("p")), 0)

	// The advice of the hint.
	s = w.startWith(shellpty.Config{Shell: "bash", RC: w.rc("bash") + "PROMPT_COMMAND=(shellpty_report __localport_prompt); readonly PROMPT_COMMAND\n" + w.rc("bash") + "return\n"})
	if got := s.Screen(); got != "[1]> " {
		t.Errorf("printed %q", got)
	}
	w.expectExports(s, cd(w.project("p")), 1)
}

// A shell that inherits the environment has no function of the hook.
func TestHook_BashDoesNotExportItsName(t *testing.T) {
	w := newTestEnv(t)
	s := w.startWith(shellpty.Config{Shell: "bash", RC: "export PROMPT_COMMAND=true\n" + w.rc("bash")})
	s.Run("bash --norc --noprofile -i -c 'echo \"[${PROMPT_COMMAND-}]\"'")
	if out := s.Output(); strings.Contains(out, "localport") {
		t.Errorf("a nested shell inherits %q", out)
	}
}

// VS Code's shell integration that has found no prompt hook gets ours.
func TestHook_BashIsRunByVSCode(t *testing.T) {
	w := newTestEnv(t)
	rc := strings.ReplaceAll("PROMPT_COMMAND=\n"+vscodeBash+"HOOK"+"told=$(declare -p PROMPT_COMMAND __vsc_original_prompt_command); trap - DEBUG; PROMPT_COMMAND=\n", "TOOLS", toolsDir(t))
	s := w.startWith(shellpty.Config{Shell: "bash", RC: strings.Replace(rc, "HOOK", w.rc("bash")+w.rc("bash"), 1)})
	want := `declare -a PROMPT_COMMAND=([0]="__vsc_prompt_cmd_original")` + "\n" + `declare -a __vsc_original_prompt_command=([0]="" [1]="__localport_prompt")`
	if got := s.Eval(`"$told"`); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
