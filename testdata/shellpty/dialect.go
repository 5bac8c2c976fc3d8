package shellpty

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// dialect is how one shell is told to start interactively with our start-up file and nobody else's, and to report.
// WORK stands for the working directory.
type dialect struct {
	file     string   // the start-up file, in the working directory
	args     []string // name it
	source   string   // the command that reads a file of commands
	define   string   // stands before the test's own start-up text, so that no alias of that counts in it
	register string   // stands after it, so that the report comes after all hooks
}

func (d dialect) prepare(t testing.TB, work, rc string) (args []string) {
	t.Helper()
	text := strings.ReplaceAll(d.define+rc+"\n"+d.register, "WORK", work)
	if err := os.WriteFile(filepath.Join(work, d.file), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, arg := range d.args {
		args = append(args, strings.ReplaceAll(arg, "WORK", work))
	}
	return args
}

// In bash the first lines undo what a system-wide start-up file that cannot be skipped may have set up. In fish the
// prompt itself reports: it comes after all handlers. The functions hold out under set -eu, noclobber, odd IFS, the
// options of ksh, and functions named like builtins.
var dialects = map[string]dialect{
	"bash": {
		file:   "bashrc",
		args:   []string{"--noprofile", "--rcfile", "WORK/bashrc", "-i"},
		source: ".",
		define: `unset PROMPT_COMMAND HISTFILE
unset -f command_not_found_handle
shellpty_report() {
  \builtin local status="$?"
  shellpty_number=$((${shellpty_number-0} + 1))
  PS1="[$shellpty_number]> "
  \builtin printf 'P%s %s %s\0' "$shellpty_number" "$status" "$$" >|WORK/report
}
shellpty_tell() { \builtin printf 'V%s\0' "$1" >|WORK/report; }
`,
		register: `if [[ ${PROMPT_COMMAND[1]-} ]]; then
  PROMPT_COMMAND+=(shellpty_report)
else
  PROMPT_COMMAND="${PROMPT_COMMAND:+$PROMPT_COMMAND;}shellpty_report"
fi
`,
	},
	"zsh": {
		file:   ".zshrc",
		args:   []string{"-d", "-i"},
		source: ".",
		define: `unsetopt prompt_sp
shellpty_report() {
  local status_=$?
  builtin emulate -L zsh
  shellpty_number=$((${shellpty_number-0} + 1))
  PS1="[$shellpty_number]> "
  builtin printf 'P%s %s %s\0' $shellpty_number $status_ $$ >|WORK/report
}
shellpty_tell() { builtin printf 'V%s\0' "$1" >|WORK/report; }
`,
		register: `precmd_functions+=(shellpty_report)
`,
	},
	"fish": {
		file:   "init.fish",
		args:   []string{"--no-config", "--interactive", "--init-command", "source WORK/init.fish"},
		source: "builtin source",
		define: `function shellpty_count --on-event fish_prompt
    set -g shellpty_number (builtin math 0$shellpty_number + 1)
end
function fish_prompt
    builtin printf 'P%s %s %s\0' $shellpty_number $status $fish_pid >WORK/report
    builtin printf '[%s]> ' $shellpty_number
end
function shellpty_tell
    builtin printf 'V%s\0' "$argv[1]" >WORK/report
end
function fish_title
end
function fish_greeting
end
`,
	},
}
