package shellhook_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/shellpty"
)

// scenarioOptions has, for each shell, what a user's start-up file may set.
var scenarioOptions = map[string][]string{
	"bash": {
		"", "set -u", "set -e", "exec 9>/dev/null; BASH_XTRACEFD=9; set -x", "set -o posix", "shopt -s extdebug", "shopt -s failglob", "shopt -s nullglob",
		"trap 'echo trapped >/dev/null' DEBUG ERR USR1",
	},
	"zsh": {
		"", "setopt ksh_arrays", "setopt sh_word_split", "unsetopt nomatch", "setopt err_exit", "setopt no_unset", "unsetopt extended_glob",
		"setopt warn_create_global", "trap 'print trapped >/dev/null' ZERR USR1",
	},
	"fish": {"", "--private", "set -g fish_key_bindings fish_vi_key_bindings"},
}

// scenarioTools are the names of shellTools that are tested with every option; "" is none.
var scenarioTools = []string{"", "bash-preexec", "starship", "vscode", "liquidprompt", "pure", "autosuggestions", "syntax-highlighting"}

// brokenScenarios are tools that fail with an option without the hook too: the shell ends, or its editor does not work.
var brokenScenarios = map[string]bool{
	"bash, set -e, liquidprompt":                  true,
	"zsh, setopt err_exit, pure":                  true,
	"zsh, setopt ksh_arrays, syntax-highlighting": true,
}

// dumpStates writes what a shell has to FILE: variables, functions, options, traps, key bindings, with a line "== NAME" before each.
var dumpStates = map[string]string{
	"bash": `{ builtin echo "== variables"; declare -p; builtin echo "== functions"; declare -f; builtin echo "== options"; shopt -p; shopt -po
builtin echo "== traps"; trap -p; builtin echo "== bindings"; bind -X; bind -p; } >|FILE 2>/dev/null || :`,
	"zsh": `{ builtin print "== options"; setopt; builtin print "== traps"; trap
builtin print "== functions"; functions; builtin print "== bindings"; bindkey -L; zle -lL; builtin print "== variables"
() { emulate -L zsh; local k; for k in ${(ko)parameters}; do [[ ${parameters[$k]} == *(special|hide|local)* ]] || typeset -p $k; done } } >|FILE`,
	"fish": `begin; echo "== variables"; set -g; set -U; set -gx; echo "== functions"; functions -an; functions --handlers
echo "== traps"; trap; echo "== bindings"; bind; echo "== options"; status job-control; end >FILE`,
}

// volatileNames are variables that differ between two shells that do the same, or that the test's own report uses.
var volatileNames = regexp.MustCompile(`^(_|BASHPID|BASH_(ARGC|ARGV|COMMAND|LINENO|SOURCE|SUBSHELL)|EPOCH\w*|FUNCNAME|HISTCMD|LINENO|PIPESTATUS|PPID|S?RANDOM|SECONDS|` +
	`TTY|shellpty_\w+|STARSHIP_\w*|ATUIN_\w+|__atuin_\w*|CMD_DURATION|history|last\w*|fish_pid|status\w*|pipestatus|i|prompt_pure_\w+|ASYNC_\w+|__bp_last_\w+|` +
	`BP_PIPESTATUS|_?LP_\w+|_?lp_\w+|_zsh_highlight_\w+|_ZSH_AUTOSUGGEST_ASYNC_FD)$`)

// hookLists are variables with the names of prompt hooks. Our hook makes an array of PROMPT_COMMAND.
var hookLists = []string{"PROMPT_COMMAND", "precmd_functions", "chpwd_functions", "preexec_functions", "__vsc_original_prompt_command"}

var (
	tempPattern     = regexp.MustCompile(`/[^\s'":;=]*shellpty\d+|-s[\d.]+-r\d+-`) // and the names of widgets that zsh-syntax-highlighting renames
	variablePattern = regexp.MustCompile(`^(?:declare|typeset|export)(?: -\S+)* (\w+)|^(\w+)\b`)
	functionPattern = regexp.MustCompile(`^(\S+) \(\) ?\{?$`)
	wordPattern     = regexp.MustCompile(`[A-Za-z_]\w*`)
)

// shellState returns the state of a shell as a set of lines, without the hook's own names.
func shellState(t *testing.T, s *shellpty.Shell, shell string) []string {
	t.Helper()
	path := filepath.Join(shellpty.NewDir(t), "state")
	s.Run(strings.ReplaceAll(dumpStates[shell], "FILE", path))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	section, function := "", ""
	for line := range strings.SplitSeq(string(data), "\n") {
		line = tempPattern.ReplaceAllString(line, "TEMP")
		switch {
		case strings.HasPrefix(line, "== "):
			section, function = line[3:], ""
			continue
		case section == "variables":
			m := variablePattern.FindStringSubmatch(line)
			if m != nil && (volatileNames.MatchString(m[1]+m[2]) || strings.HasPrefix(m[1]+m[2], "__localport_")) {
				continue
			}
			if m != nil && slices.Contains(hookLists, m[1]) {
				_, value, _ := strings.Cut(strings.ReplaceAll(line, `\n`, " "), "=")
				hooks := slices.DeleteFunc(wordPattern.FindAllString(value, -1), func(word string) bool { return strings.HasPrefix(word, "__localport_") })
				if len(hooks) == 0 {
					continue
				}
				line = m[1] + "=" + strings.Join(hooks, " ")
			}
		case section == "functions" && shell != "fish":
			if m := functionPattern.FindStringSubmatch(line); m != nil {
				function = m[1]
			}
			if strings.HasPrefix(function, "__localport_") {
				continue
			}
			line = function + ": " + line
		case strings.Contains(line, "__localport_") || line == "" || strings.HasPrefix(line, "Event "):
			continue
		}
		lines = append(lines, section+": "+line)
	}
	return lines
}

// expectSameState reports what only one of two states has.
func expectSameState(t *testing.T, order string, bare, hooked []string) {
	t.Helper()
	count := make(map[string]int)
	for _, line := range bare {
		count[line]--
	}
	for _, line := range hooked {
		count[line]++
	}
	for _, line := range slices.Sorted(maps.Keys(count)) {
		switch n := count[line]; {
		case n > 0:
			t.Errorf("%s: only with the hook: %s", order, line)
		case n < 0:
			t.Errorf("%s: only without the hook: %s", order, line)
		}
	}
}

// A project is entered and left whatever options a shell has, beside whatever tool, in both orders; and then the shell has the same variables,
// functions, options, traps and key bindings as one without the hook.
func TestHook_Scenarios(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		for _, options := range scenarioOptions[shell] {
			for _, name := range scenarioTools {
				tool, hasTool := findTool(shell, name)
				scenario := strings.Join(slices.DeleteFunc([]string{shell, options, name}, func(s string) bool { return s == "" }), ", ")
				if !hasTool || brokenScenarios[scenario] {
					continue
				}
				t.Run(scenario, func(t *testing.T) {
					t.Parallel()
					testScenario(t, tool, options)
				})
			}
		}
	}
}

func findTool(shell, name string) (shellTool, bool) {
	if name == "" {
		return shellTool{shell: shell, file: "/"}, true
	}
	at := slices.IndexFunc(shellTools, func(tool shellTool) bool { return tool.shell == shell && tool.name == name })
	if at < 0 {
		return shellTool{}, false
	}
	return shellTools[at], true
}

func testScenario(t *testing.T, tool shellTool, options string) {
	w := newTestEnv(t)
	root := w.project("p")
	lines := []string{"true", cd(root), "true", "sh -c 'exit 3' || true", cd(w.dir), "true", "true", "true"}
	start := func(rc string) *shellpty.Shell {
		if options == "--private" {
			tool.args = []string{options}
			return tool.start(t, w, rc)
		}
		return tool.start(t, w, rc+options+"\n")
	}
	bare := start(tool.startupText(t, "", "before"))
	projectAfter := map[string]string{cd(root): root, cd(w.dir): ""}
	variable := `"${PROJECT-}"`
	if tool.shell == "fish" {
		variable = `"$PROJECT"`
	}
	for _, line := range lines {
		bare.Run(line)
		if strings.HasPrefix(line, "cd ") {
			bare.Eval(variable) // as in the other shells
		}
	}
	bareState := shellState(t, bare, tool.shell)
	for _, order := range []string{"before", "after"} {
		s := start(tool.startupText(t, w.rc(tool.shell), order))
		for _, line := range lines {
			before := len(w.recordedExports())
			s.Run(line)
			want := 0
			if strings.HasPrefix(line, "cd ") {
				want = 1
			}
			if got := len(w.recordedExports()) - before; got != want {
				t.Errorf("%s: %q ran %d exports, want %d", order, line, got, want)
			}
			if project, isCd := projectAfter[line]; isCd {
				if got := s.Eval(variable); got != project {
					t.Errorf("%s: after %s PROJECT is %q, want %q", order, line, got, project)
				}
			}
		}
		expectSameState(t, order, bareState, shellState(t, s, tool.shell))
	}
}
