package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/executable"
	"github.com/localport-sh/localport/testdata/shellpty"
)

// completionTests are command lines and what is offered for their last word. "-" before a word: it is not offered.
var completionTests = []struct {
	line string
	want []string
}{
	{"localport sta", []string{"start", "status", "-stop", "-supervise"}},
	{"localport daemon ", []string{"reload", "restart", "start", "status", "stop", "-web"}},
	{"localport -v daemon re", []string{"reload", "restart", "-recipes"}},
	{"localport restart ", []string{"web", "db-main", "-supervisor", "-restart"}},
	{"localport restart web d", []string{"db-main", "-web"}},
	{"localport logs ", []string{"web", "db-main", "supervisor"}},
	{"localport restart --tag ", []string{"database", "-web"}},
	{"localport exec -s w", []string{"web", "-db-main"}},
	{"localport env --format d", []string{"dotenv", "docker", "-sh"}},
	{"localport env --format=d", []string{"dotenv", "docker", "-sh"}},
	{"localport env --fo", []string{"--format"}},
	{"localport env --l", []string{"--lease", "--log-level"}},
	{"localport --log-level in", []string{"info", "-debug"}},
	{"localport why ", []string{"web", "db-main"}},
	{"localport uninstall --r", []string{"--rc-files", "-web"}},
	{"localport forward --context ", []string{"staging", "-web"}},
	{"localport init --from own-f", []string{"own-file"}},
	{"localport init --example mono", []string{"monorepo", "-bastion"}},
	{"localport hook ", []string{"bash", "zsh", "fish", "nu"}},
	{"localport exec -- completion-test-p", []string{"completion-test-program"}},
	{"localport exec completion-test-p", []string{"completion-test-program"}},
	{"localport exec -s web -- cat own-f", []string{"own-file"}},
	{"localport -C ../other restart ", []string{"elsewhere", "-web"}},
	{"localport status ", []string{"web"}},
	{"localport metrics web ", []string{"-web", "-metrics"}},
}

func TestCompletion_OffersCommandsFlagsAndNames(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(shell); err != nil {
				t.Skipf("%s is not installed", shell)
			}
			w := newTestEnv(t)
			root := w.project("[services.web]\ntags = [\"front\"]\nlocal_port = 1\n[services.db-main]\ntags = [\"database\"]\nnot_yet = \n")
			other := filepath.Join(filepath.Dir(root), "other")
			for dir, files := range map[string]map[string]string{
				other:         {".localport.toml": "[services.elsewhere]\n"},
				w.home + "/b": {"completion-test-program": "#!/bin/sh\n"},
				root:          {"own-file": ""},
				w.home:        {"kubeconfig": "contexts: [{name: staging, context: {}}]\n"},
			} {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				for name, text := range files {
					if err := executable.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil { //nolint:gosec // a program
						t.Fatal(err)
					}
				}
			}
			bin := filepath.Join(w.home, "b")
			if err := os.Symlink(w.exe, filepath.Join(bin, "localport")); err != nil {
				t.Fatal(err)
			}
			w.env = append(w.env, "PATH="+bin+":"+os.Getenv("PATH"), "KUBECONFIG="+filepath.Join(w.home, "kubeconfig"))
			o := w.localport(root, "completion", shell)
			if o.code != 0 || o.stderr != "" {
				t.Fatalf("exit %d: %s", o.code, o.stderr)
			}
			w.writeFile(w.home, "script", o.stdout)
			var complete func(line string) []string
			switch shell {
			case "bash":
				complete = func(line string) []string { return w.completeInBash(root, line) }
			case "zsh":
				complete = w.completeInZsh(root)
			case "fish":
				complete = func(line string) []string { return w.completeInFish(root, line) }
			}
			for _, test := range completionTests {
				got := complete(test.line)
				for _, want := range test.want {
					unwanted, isUnwanted := strings.CutPrefix(want, "-")
					isUnwanted = isUnwanted && !strings.HasPrefix(unwanted, "-")
					if isUnwanted && slices.Contains(got, unwanted) || !isUnwanted && !slices.Contains(got, want) {
						t.Errorf("%q offers %q, want %q", test.line, got, test.want)
						break
					}
				}
			}
		})
	}
}

// completeInBash calls the completion as bash does: "=" is a word of its own there.
func (w *testEnv) completeInBash(dir, line string) []string {
	w.t.Helper()
	words := strings.Split(strings.ReplaceAll(line, "=", " = "), " ")
	script := ". " + w.home + "/script\nCOMP_WORDS=("
	for _, word := range words {
		script += " '" + word + "'"
	}
	script += ")\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n__localport_complete\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n"
	cmd := w.program(dir, "bash", "--norc", "-c", script)
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func (w *testEnv) completeInFish(dir, line string) []string {
	w.t.Helper()
	out, err := w.program(dir, "fish", "--no-config", "-c", "source "+w.home+"/script; complete -C $argv[1]", line).Output()
	if err != nil {
		w.t.Fatalf("%s: %v", line, err)
	}
	var words []string
	for entry := range strings.Lines(string(out)) {
		word, _, _ := strings.Cut(strings.TrimSuffix(entry, "\n"), "\t")
		words = append(words, strings.TrimPrefix(word, "--format="))
	}
	return words
}

func (w *testEnv) program(dir, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, w.env
	return cmd
}

// zshCapture binds Ctrl-T to a completion whose matches go to a file.
const zshCapture = `autoload -Uz compinit && compinit -u
source $HOME/script
compadd() {
  local -a found
  if [[ " ${(j: :)@} " != *' -'[OA]' '* ]]; then
    builtin compadd -A found "$@" # its status says nothing
    print -rl -- $found >>$HOME/matches
  fi
  builtin compadd "$@"
}
capture() { zle list-choices; print END >>$HOME/matches; BUFFER='' }
zle -N capture
bindkey '^T' capture
unsetopt beep
zstyle ':completion:*' accept-exact false
`

func (w *testEnv) completeInZsh(dir string) func(line string) []string {
	w.t.Helper()
	s := shellpty.Start(w.t, shellpty.Config{Shell: "zsh", RC: zshCapture, Dir: dir, Home: w.home, Env: w.env})
	matches := filepath.Join(w.home, "matches")
	return func(line string) []string {
		w.t.Helper()
		if err := os.WriteFile(matches, nil, 0o600); err != nil {
			w.t.Fatal(err)
		}
		s.Type(line + "\x14")
		var text string
		eventually(w.t, "the completion of "+line, func() bool {
			data, err := os.ReadFile(matches)
			text = string(data)
			return err == nil && strings.HasSuffix(text, "END\n")
		})
		return strings.Split(text, "\n")
	}
}

// The scripts are the same each time, and the shells can parse them.
func TestCompletion_ScriptsAreStatic(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script := w.localport(w.home, "completion", shell).stdout
		if again := w.localport(w.home, "completion", shell).stdout; again != script || script == "" {
			t.Errorf("%s: the scripts differ, or are empty", shell)
		}
		w.writeFile(w.home, "script", script)
		if _, err := exec.LookPath(shell); err != nil {
			continue
		}
		if out, err := w.program(w.home, shell, "-n", w.home+"/script").CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s -n: %v\n%s", shell, err, out)
		}
	}
	if o := w.localport(w.home, "completion", "tcsh"); o.code != 2 || !strings.Contains(o.stderr, "bash, zsh, fish") {
		t.Errorf("for tcsh: exit %d, %q", o.code, o.stderr)
	}
	if o := w.localport(w.home, "__complete", "services"); o.code != 1 || o.stdout+o.stderr != "" {
		t.Errorf("outside a project: exit %d, %q %q", o.code, o.stdout, o.stderr)
	}
}

func TestCompletion_OffersContexts(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	w.writeFile(w.home, "kubeconfig", "contexts:\n- name: staging\n  context: {cluster: c}\n- {name: 'arn:aws:eks:x/prod', context: {}}\n")
	w.env = append(w.env, "KUBECONFIG=missing:kubeconfig")
	if o := w.localport("/", "__complete", "contexts", "-C", w.home); o.code != 0 || o.stdout != "arn:aws:eks:x/prod\nstaging\n" {
		t.Errorf("exit %d, %q %q", o.code, o.stdout, o.stderr)
	}
	w.writeFile(w.home, "kubeconfig", "contexts: [")
	if o := w.localport(w.home, "__complete", "contexts"); o.code != 1 || o.stdout+o.stderr != "" {
		t.Errorf("damaged: exit %d, %q %q", o.code, o.stdout, o.stderr)
	}
}
