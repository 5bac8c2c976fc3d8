package shellpty

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// shellSetup says how a kind of shell is started interactively with the test's start-up file alone, and how it reports its prompts.
// WORK in a string is replaced by the working directory.
type shellSetup struct {
	startupFile   string   // the name of the start-up file, in the working directory
	homeFile      string   // the name of a file in HOME that the shell reads; it then reads startupFile. "" for a shell that takes startupFile as an argument
	startupArgs   []string // make the shell interactive and read that file
	sourceCommand string   // the command that reads a file of commands
	beforeRC      string   // precedes the test's start-up text, whose aliases must not apply to it
	environTo     string   // writes the environment to the file whose name follows; "": "env -0 >"
	repeatsPrompt bool     // whether it shows the last prompt again until it knows the new one
	afterRC       string   // follows the test's start-up text, so that the report is written after other hooks
	reportFirst   string   // replaces afterRC, before the test's start-up text, with Config.ReportFirst
}

// writeStartupFile writes the start-up file and returns the shell's arguments.
func (s shellSetup) writeStartupFile(t testing.TB, home, work string, c Config) (args []string) {
	t.Helper()
	text := s.beforeRC + c.RC + "\n" + s.afterRC
	if c.ReportFirst {
		text = s.beforeRC + s.reportFirst + c.RC + "\n"
	}
	text = strings.ReplaceAll(text, "WORK", work)
	if err := os.WriteFile(filepath.Join(work, s.startupFile), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if s.homeFile != "" {
		if err := os.WriteFile(filepath.Join(home, s.homeFile), []byte(s.sourceCommand+" "+filepath.Join(work, s.startupFile)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, arg := range s.startupArgs {
		args = append(args, strings.ReplaceAll(arg, "WORK", work))
	}
	return args
}

// shellSetups has a setup for each kind of shell. In bash the first lines undo what a system-wide start-up file may have set, which cannot
// be skipped. In fish the prompt function reports, because it runs after all handlers. The functions also work under set -eu, noclobber,
// an unusual IFS and the options of ksh, and where functions are named like builtins. If the start-up text sets shellpty_keep, the prompt is
// its own, and must contain [$shellpty_number]> itself.
var shellSetups = map[string]shellSetup{
	"bash": {
		startupFile:   "bashrc",
		startupArgs:   []string{"--noprofile", "--rcfile", "WORK/bashrc", "-i"},
		sourceCommand: ".",
		beforeRC: `unset PROMPT_COMMAND HISTFILE
unset -f command_not_found_handle
shellpty_report() {
  \local status="$?"
  shellpty_number=$((${shellpty_number-0} + 1))
  [[ ${shellpty_keep-} ]] || PS1="[$shellpty_number]> "
  \builtin printf 'P%s %s %s\0' "$shellpty_number" "$status" "$$" >|WORK/report
}
shellpty_tell() { \builtin printf 'V%s\0' "$1" >|WORK/report; }
`,
		afterRC: `if [[ ${PROMPT_COMMAND[1]-} ]]; then
  PROMPT_COMMAND+=(shellpty_report)
else
  PROMPT_COMMAND="${PROMPT_COMMAND:+$PROMPT_COMMAND
}shellpty_report"
fi
`,
		reportFirst: `PROMPT_COMMAND=shellpty_report
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
  [[ -n ${shellpty_keep-} ]] || PS1="[$shellpty_number]> "
  builtin printf 'P%s %s %s\0' $shellpty_number $status_ $$ >|WORK/report
}
shellpty_tell() { builtin printf 'V%s\0' "$1" >|WORK/report; }
`,
		afterRC: `precmd_functions+=(shellpty_report)
`,
		reportFirst: `precmd_functions=(shellpty_report)
`,
	},
	"fish": {
		startupFile:   "init.fish",
		startupArgs:   []string{"--no-config", "--interactive", "--init-command", "source WORK/init.fish"},
		sourceCommand: "builtin source",
		beforeRC: `function shellpty_count --on-event fish_prompt
    set -l last $status
    set -g shellpty_number (builtin math 0$shellpty_number + 1)
    set -q shellpty_keep; and builtin printf 'P%s %s %s\0' $shellpty_number $last $fish_pid >WORK/report
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
	// An alias precmd reports. The hook under test is between its two parts, and keeps the first.
	"tcsh": {
		startupFile:   "tcshrc",
		homeFile:      ".tcshrc",
		sourceCommand: "source",
		beforeRC: `set echo_style = both
set shellpty_number = 0
alias precmd 'set shellpty_status = $status'
alias shellpty_report '@ shellpty_number++; set prompt = "[$shellpty_number]> "; echo -n "P$shellpty_number $shellpty_status $$\0" > WORK/report'
`,
		afterRC: `set shellpty_precmd = "` + "`alias precmd`" + `"
alias precmd "$shellpty_precmd:q; shellpty_report"
`,
	},
	// elvish has no exit status: it reports 0. It writes only what has changed on the screen, beginning at the first difference: two prompts
	// in a row differ from their first character on.
	"elvish": {
		startupFile:   "rc.elv",
		startupArgs:   []string{"-rc", "WORK/rc.elv"},
		sourceCommand: "shellpty_source",
		repeatsPrompt: true,
		beforeRC: `var shellpty_number = 0
fn shellpty_source {|file| eval (slurp < $file) }
var shellpty_reported = 0
set edit:prompt = {
  if (!= $shellpty_reported $shellpty_number) {
    set shellpty_reported = $shellpty_number
    print 'P'$shellpty_number' 0 '$pid"\x00" > WORK/report
  }
  if (== (% $shellpty_number 2) 0) { put ' ' }
  put '['$shellpty_number']> '
}
set edit:rprompt = { }
`,
		afterRC: `set edit:before-readline = [$@edit:before-readline {
  set shellpty_number = (+ $shellpty_number 1)
}]
`,
	},
	"nu": {
		startupFile:   "config.nu",
		startupArgs:   []string{"--env-config", "/dev/null", "--config", "WORK/config.nu"},
		sourceCommand: "source",
		environTo:     "^env -0 o> ",
		beforeRC: `$env.config.show_banner = false
$env.config.use_ansi_coloring = false
$env.shellpty_number = 0
$env.PROMPT_COMMAND = {||
  $"P($env.shellpty_number) ($env.LAST_EXIT_CODE) ($nu.pid)\u{0}" | save --raw --append WORK/report
  $"[($env.shellpty_number)]> "
}
$env.PROMPT_COMMAND_RIGHT = ""
$env.PROMPT_INDICATOR = ""
`,
		afterRC: `$env.config.hooks.pre_prompt = ($env.config.hooks.pre_prompt | append {||
  $env.shellpty_number += 1
})
`,
	},
}
