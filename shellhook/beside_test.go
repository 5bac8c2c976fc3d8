package shellhook_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/shellpty"
)

// toolsDir returns the directory where .ci/shell-tools has installed tools, or skips the test.
func toolsDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("LOCALPORT_TEST_SHELL_TOOLS")
	if cache, err := os.UserCacheDir(); dir == "" && err == nil {
		dir = filepath.Join(cache, "localport-ci", "shell-tools")
	}
	if _, err := os.Stat(filepath.Join(dir, "versions")); err != nil {
		t.Skip("the shell tools are not installed: .ci/shell-tools " + dir)
	}
	return dir
}

// shellTool is a program that adds itself to a shell's prompt, as users install it.
type shellTool struct {
	shell, name string
	file        string // of the tool; a missing one skips the test. TOOLS is toolsDir, here and in rc
	rc          string
	keepsPrompt bool   // the prompt is the tool's own, with the number in it
	shows       string // what it shows of the line pipeStatusLine
	env         []string
	args, wrap  []string // of the shell; before it
	once        bool     // its start-up text cannot be evaluated twice, with or without the hook
}

// pipeStatusLine ends with a status of 1, 0 and 3.
const pipeStatusLine = "false | true | sh -c 'exit 3' last"

// starshipConfig shows the status, with that of each process of a pipe.
const starshipConfig = `format = "$status${env_var.shellpty_number}"
add_newline = false
[status]
disabled = false
pipestatus = true
format = "<$status>"
pipestatus_format = "<$status:$pipestatus>"
pipestatus_segment_format = "$status"
recognize_signal_code = false
[env_var.shellpty_number]
format = '\[$env_value\]> '
`

// atuinConfig lets atuin record nothing: it would do so in the background, after the test.
const atuinConfig = "history_filter = ['.*']\nupdate_check = false\nauto_sync = false\n"

// preexecNotes lets bash-preexec show what its functions see.
const preexecNotes = `
precmd() { echo "PRECMD $? ${BP_PIPESTATUS[*]} $_"; }
preexec() { echo "PREEXEC $1"; }
`

const (
	vscodeBash      = "VSCODE_NONCE=0001; VSCODE_STABLE=1; . TOOLS/vscode/shellIntegration-bash.sh\n"
	starshipBash    = `export shellpty_number; eval "$(TOOLS/bin/starship init bash)"` + "\n"
	bashPreexecFile = "TOOLS/bash-preexec.sh"
	fzfExamples     = "/usr/share/doc/fzf/examples/"
)

var vscodeTerminal = []string{"TERM_PROGRAM=vscode"}

// shellTools has the tools, each in the version that .ci/shell-tools or Debian has.
var shellTools = []shellTool{
	{shell: "bash", name: "bash-preexec", file: bashPreexecFile, rc: ". " + bashPreexecFile + preexecNotes, shows: "PRECMD 3 1 0 3"},
	{shell: "bash", name: "atuin", file: "TOOLS/bin/atuin", rc: `eval "$(TOOLS/bin/atuin init bash)"` + preexecNotes, shows: "PRECMD 3 1 0 3"},
	{shell: "bash", name: "starship", file: "TOOLS/bin/starship", rc: starshipBash, keepsPrompt: true, shows: "<3:1|0|3>"},
	{shell: "bash", name: "vscode", file: "TOOLS/vscode/shellIntegration-bash.sh", rc: vscodeBash, shows: "633;C\a\x1b]633;D;3\a", env: vscodeTerminal},
	{
		shell: "bash", name: "starship and vscode", file: "TOOLS/bin/starship", rc: starshipBash + vscodeBash,
		keepsPrompt: true, shows: "633;C\a\x1b]633;D;3\a", env: vscodeTerminal, once: true,
	},
	{
		shell: "bash", name: "bash-preexec and vscode", file: bashPreexecFile, rc: ". " + bashPreexecFile + preexecNotes + vscodeBash,
		shows: "PRECMD 3 1 0 3", env: vscodeTerminal,
	},
	{
		shell: "bash", name: "bash-preexec and starship", file: bashPreexecFile,
		rc:          "PROMPT_COMMAND=; . " + bashPreexecFile + "; precmd_functions=(shellpty_report)\n" + starshipBash,
		keepsPrompt: true, shows: "<3:1|0|3>", once: true,
	},
	{
		shell: "bash", name: "liquidprompt", file: "/usr/share/liquidprompt/liquidprompt",
		rc: `LP_ENABLE_LOAD=0; LP_ENABLE_RUNTIME=0; LP_PS1_POSTFIX='[$shellpty_number]> '; . /usr/share/liquidprompt/liquidprompt`, keepsPrompt: true, shows: "] 3 ",
	},
	{shell: "bash", name: "fzf", file: fzfExamples + "key-bindings.bash", rc: ". " + fzfExamples + "key-bindings.bash"},
	{
		shell: "bash", name: "bash-completion", file: "/usr/share/bash-completion/bash_completion",
		rc: ". /usr/share/bash-completion/bash_completion",
	},
	{shell: "bash", name: "zoxide", file: "/usr/bin/zoxide", rc: `eval "$(zoxide init bash)"`},
	{shell: "zsh", name: "starship", file: "TOOLS/bin/starship", rc: `export shellpty_number; eval "$(TOOLS/bin/starship init zsh)"`, keepsPrompt: true, shows: "<3:1|0|3>"},
	{
		shell: "zsh", name: "vscode", file: "TOOLS/vscode/shellIntegration-rc.zsh", rc: "VSCODE_NONCE=0001; . TOOLS/vscode/shellIntegration-rc.zsh",
		shows: "633;C\a\x1b]633;D;3\a", env: vscodeTerminal,
	},
	{shell: "zsh", name: "atuin", file: "TOOLS/bin/atuin", rc: `eval "$(TOOLS/bin/atuin init zsh)"`},
	{
		shell: "zsh", name: "pure", file: "TOOLS/pure/pure.zsh",
		rc: "PURE_CMD_MAX_EXEC_TIME=9999; fpath+=(TOOLS/pure); . TOOLS/pure/pure.zsh; setopt prompt_subst; PROMPT+='[$shellpty_number]> '", keepsPrompt: true,
	},
	{
		shell: "zsh", name: "spaceship", file: "TOOLS/spaceship/spaceship.zsh",
		rc: "SPACESHIP_PROMPT_ASYNC=false; SPACESHIP_PROMPT_ORDER=(exit_code number); SPACESHIP_EXIT_CODE_SHOW=true; SPACESHIP_EXIT_CODE_SYMBOL=status\n" +
			"spaceship_number() { spaceship::section --color white \"[$shellpty_number]> \" }; . TOOLS/spaceship/spaceship.zsh", keepsPrompt: true, shows: "status3",
	},
	{shell: "zsh", name: "antigen", file: "/usr/share/zsh-antigen/antigen.zsh", rc: ". /usr/share/zsh-antigen/antigen.zsh; antigen apply"},
	{shell: "zsh", name: "fzf", file: fzfExamples + "key-bindings.zsh", rc: ". " + fzfExamples + "key-bindings.zsh; . " + fzfExamples + "completion.zsh"},
	{shell: "zsh", name: "powerlevel9k", file: "/usr/share/powerlevel9k/powerlevel9k.zsh-theme", rc: `POWERLEVEL9K_LEFT_PROMPT_ELEMENTS=(status custom_number)
POWERLEVEL9K_RIGHT_PROMPT_ELEMENTS=(); POWERLEVEL9K_CUSTOM_NUMBER='echo "[$shellpty_number]>"'
. /usr/share/powerlevel9k/powerlevel9k.zsh-theme`, keepsPrompt: true, shows: "3"},
	{
		shell: "zsh", name: "autosuggestions", file: "/usr/share/zsh-autosuggestions/zsh-autosuggestions.zsh",
		rc: ". /usr/share/zsh-autosuggestions/zsh-autosuggestions.zsh",
	},
	{
		shell: "zsh", name: "syntax-highlighting", file: "/usr/share/zsh-syntax-highlighting/zsh-syntax-highlighting.zsh",
		rc: ". /usr/share/zsh-syntax-highlighting/zsh-syntax-highlighting.zsh",
	},
	{
		shell: "zsh", name: "liquidprompt of zsh", file: "/usr/share/liquidprompt/liquidprompt",
		rc: `setopt prompt_subst; LP_ENABLE_LOAD=0; LP_ENABLE_RUNTIME=0; LP_PS1_POSTFIX='[$shellpty_number]> '; . /usr/share/liquidprompt/liquidprompt`, keepsPrompt: true, shows: "] 3 ",
	},
	{shell: "zsh", name: "zoxide", file: "/usr/bin/zoxide", rc: `eval "$(zoxide init zsh)"`},
	{
		shell: "fish", name: "starship", file: "TOOLS/bin/starship", rc: "set -gx shellpty_number 0$shellpty_number; TOOLS/bin/starship init fish | source",
		keepsPrompt: true, shows: "<3:1|0|3>",
	},
	{
		shell: "fish", name: "vscode", file: "TOOLS/vscode/shellIntegration.fish",
		rc: "set -g VSCODE_NONCE 0001; set -g VSCODE_STABLE 1; source TOOLS/vscode/shellIntegration.fish", shows: "633;C\a\x1b]633;D;3\a", env: vscodeTerminal,
	},
	{shell: "fish", name: "atuin", file: "TOOLS/bin/atuin", rc: "TOOLS/bin/atuin init fish | source"},
	{shell: "fish", name: "fzf", file: fzfExamples + "key-bindings.fish", rc: "source " + fzfExamples + "key-bindings.fish; fzf_key_bindings"},
	{shell: "fish", name: "zoxide", file: "/usr/bin/zoxide", rc: "zoxide init fish | source"},
}

// transcript runs lines and returns what each shows, up to the prompt's number.
func transcript(s *shellpty.Shell, dir string, lines ...string) (shown []string) {
	for _, line := range lines {
		s.Run(line)
		shown = append(shown, line+" => "+normalizeRaw(s.Raw(), dir))
	}
	return shown
}

var (
	cursorPattern = regexp.MustCompile("\x1b\\[[0-9;?>=]*[A-Za-z]|\x1b[78]|\x1b[()=>].?|\r|⏎ *")
	numberPattern = regexp.MustCompile(`\[\d+\]>`)
)

// normalizeRaw removes the line that was typed, the number of the prompt and what follows it, and what moves the cursor or sets a colour.
func normalizeRaw(raw, dir string) string {
	_, text, _ := strings.Cut(cursorPattern.ReplaceAllString(raw, ""), "\n")
	if at := numberPattern.FindStringIndex(text); at != nil {
		text = text[:at[0]]
	}
	return strings.ReplaceAll(text, dir, "DIR")
}

// startupText returns the tool's start-up text, with the hook as the order says, or skips the test if the tool is not installed.
func (tool shellTool) startupText(t *testing.T, hook, order string) string {
	t.Helper()
	tools := toolsDir(t)
	if _, err := os.Stat(strings.ReplaceAll(tool.file, "TOOLS", tools)); err != nil {
		t.Skip(err)
	}
	rc := strings.ReplaceAll(tool.rc, "TOOLS", tools) + "\n"
	switch order {
	case "before":
		return hook + rc
	case "twice":
		return rc + hook + rc + hook
	default:
		return rc + hook
	}
}

// start starts a shell with that start-up text.
func (tool shellTool) start(t *testing.T, w *testEnv, rc string) *shellpty.Shell {
	t.Helper()
	home := shellpty.NewDir(t)
	for path, text := range map[string]string{"config/starship.toml": starshipConfig, "config/atuin/config.toml": atuinConfig} {
		path = filepath.Join(home, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if tool.keepsPrompt {
		rc = map[string]string{"bash": "shellpty_keep=1\n", "zsh": "shellpty_keep=1\n", "fish": "set -g shellpty_keep 1\n"}[tool.shell] + rc
	}
	return w.startWith(shellpty.Config{
		Shell: tool.shell, Args: tool.args, Wrap: tool.wrap, RC: rc, Home: home, ReportFirst: true,
		Env: append([]string{
			"TERM=xterm", "STARSHIP_CONFIG=" + filepath.Join(home, "config/starship.toml"),
			"PATH=" + filepath.Join(toolsDir(t), "bin") + ":" + os.Getenv("PATH"),
		}, tool.env...),
	})
}

// Beside a real tool, whatever the order in the start-up file, a project is entered and left at the prompt of the cd, and the tool shows the
// same as without the hook.
func TestHook_BesideRealTools(t *testing.T) {
	for _, tool := range shellTools {
		for _, order := range []string{"before", "after", "twice", "sourced again"} {
			if tool.once && order != "before" && order != "after" {
				continue
			}
			t.Run(tool.shell+" "+tool.name+" "+order, func(t *testing.T) {
				t.Parallel()
				w := newTestEnv(t)
				root := w.project("p")
				rc := tool.startupText(t, w.rc(tool.shell), order)
				without, s := tool.start(t, w, tool.startupText(t, "", order)), tool.start(t, w, rc)
				if order == "sourced again" {
					without.Run(tool.startupText(t, "", order))
					s.Run(rc)
				}
				lines := []string{
					"true", "sh -c 'exit 7'", pipeStatusLine, "", cd(root), "echo $PROJECT | wc -l", "sh -c 'exit 9'", pipeStatusLine,
					cd(w.dir), "true", pipeStatusLine,
				}
				bare, shown := transcript(without, w.dir, lines...), transcript(s, w.dir, lines...)
				for i, want := range bare {
					if shown[i] != want {
						t.Errorf("with the hook, shown\n%q\nwithout it\n%q", shown[i], want)
					}
					if lines[i] == pipeStatusLine && !strings.Contains(shown[i], tool.shows) {
						t.Errorf("shown %q, want %q in it", shown[i], tool.shows)
					}
				}
				if calls := w.recordedExports(); len(calls) != 2 {
					t.Errorf("%d exports, want 2", len(calls))
				}
				w.expectExports(s, cd(root), 1)
				if got := projectOfShell(s); got != root {
					t.Errorf("PROJECT is %q, want %q", got, root)
				}
				if got, want := s.Run("sh -c 'exit 42'"), without.Run("sh -c 'exit 42'"); got != want {
					t.Errorf("an earlier prompt hook sees the exit status %d, without the hook %d", got, want)
				}
				w.expectExports(s, "true", 0)
				w.expectExports(s, cd(w.dir), 1)
				if got := projectOfShell(s); got != "" {
					t.Errorf("PROJECT is %q after leaving", got)
				}
			})
		}
	}
}
