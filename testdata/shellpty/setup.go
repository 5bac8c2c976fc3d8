package shellpty

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// shellSetup is how one shell is told to start interactively with our start-up file and nobody else's, and to report.
// WORK stands for the working directory.
type shellSetup struct {
	startupFile   string   // the start-up file, in the working directory
	startupArgs   []string // name it
	sourceCommand string   // the command that reads a file of commands
	beforeRC      string   // stands before the test's own start-up text, so that no alias of that counts in it
	afterRC       string   // stands after it, so that the report comes after all hooks
}

func (d shellSetup) writeStartupFile(t testing.TB, work, rc string) (args []string) {
	t.Helper()
	text := strings.ReplaceAll(d.beforeRC+rc+"\n"+d.afterRC, "WORK", work)
	if err := os.WriteFile(filepath.Join(work, d.startupFile), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, arg := range d.startupArgs {
		args = append(args, strings.ReplaceAll(arg, "WORK", work))
	}
	return args
}

// In bash the first lines undo what a system-wide start-up file that cannot be skipped may have set up. In fish the
// prompt itself reports: it comes after all handlers. The functions hold out under set -eu, noclobber, odd IFS, the
// options of ksh, and functions named like builtins.
var shellSetups = map[string]shellSetup{
	"bash": {
		startupFile:   "bashrc",
		startupArgs:   []string{"--noprofile", "--rcfile", "WORK/bashrc", "-i"},
		sourceCommand: ".",
		beforeRC: `unset PROMPT_COMMAND HISTFILE
unset -f command_not_found_handle
shellpty_report() {
  \builtin local status="$?"
  shellpty_number=$((${shellpty_number-0} + 1))
  PS1="[$shellpty_number]> "
  \builtin printf 'P%s %s %s\0' "$shellpty_number" "$status" "$$" >|WORK/report
}
shellpty_tell() { \builtin printf 'V%s\0' "$1" >|WORK/report; }
`,
		afterRC: `if [[ ${PROMPT_COMMAND[1]-} ]]; then
  PROMPT_COMMAND+=(shellpty_report)
else
  PROMPT_COMMAND="${PROMPT_COMMAND:+$PROMPT_COMMAND;}shellpty_report"
fi
`,
	},
	"zsh": {
		startupFile:   ".zshrc",
		startupArgs:   []string{"-d", "-i"},
		sourceCommand: ".",
		beforeRC: `unsetopt prompt_sp
shellpty_report() {
  local status_=$?
  builtin emulate -L zsh
  shellpty_number=$((${shellpty_number-0} + 1))
  PS1="[$shellpty_number]> "
  builtin printf 'P%s %s %s\0' $shellpty_number $status_ $$ >|WORK/report
}
shellpty_tell() { builtin printf 'V%s\0' "$1" >|WORK/report; }
`,
		afterRC: `precmd_functions+=(shellpty_report)
`,
	},
	"fish": {
		startupFile:   "init.fish",
		startupArgs:   []string{"--no-config", "--interactive", "--init-command", "source WORK/init.fish"},
		sourceCommand: "builtin source",
		beforeRC: `function shellpty_count --on-event fish_prompt
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
