package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/shellpty"
)

// environmentTool is another program whose hook sets variables by directory.
type environmentTool struct {
	file string // its config
	// text returns a config that sets TOKEN to a value, SHARED, UNSET and UNEXPORTED to "theirs", and adds DIR/theirs to PATH.
	text   func(dir, token string) string
	allow  []string          // the command that approves the config
	forbid []string          // the command that revokes the approval
	hook   map[string]string // by shell
}

var environmentTools = map[string]environmentTool{
	"direnv": {
		file: ".envrc",
		text: func(dir, token string) string {
			return fmt.Sprintf("export TOKEN=%s SHARED=theirs UNSET=theirs UNEXPORTED=theirs\nPATH_add %s/theirs\n", token, dir)
		},
		allow:  []string{"direnv", "allow"},
		forbid: []string{"direnv", "deny"},
		hook: map[string]string{
			"bash": `eval "$(direnv hook bash)"`, "zsh": `eval "$(direnv hook zsh)"`, "fish": "direnv hook fish | source",
			// It replaces the alias precmd, also that of the tests.
			"tcsh":   "set reports = \"`alias precmd`\"; eval `direnv hook tcsh`; set direnv = \"`alias precmd`\"; alias precmd \"$reports:q; $direnv:q\"",
			"elvish": "use str; eval (str:replace except catch (direnv hook elvish | slurp))", // elvish has no except any more
			// As nushell's documentation has it; direnv has none. There, an export that fails ends the other hooks of the prompt too.
			"nu": `$env.config.hooks.pre_prompt = ($env.config.hooks.pre_prompt? | default [] | append {||
  direnv export json | complete | get stdout | from json | default {} | load-env
  if ($env.PATH | describe) == string { $env.PATH = ($env.PATH | split row (char esep)) }
})`,
		},
	},
	"mise": {
		file: "mise.toml",
		text: func(dir, token string) string {
			return fmt.Sprintf("[env]\nTOKEN = %q\nSHARED = \"theirs\"\nUNSET = \"theirs\"\nUNEXPORTED = \"theirs\"\n_.path = [%q]\n", token, dir+"/theirs")
		},
		allow: []string{"mise", "trust", "--quiet"},
		hook: map[string]string{
			"bash": `eval "$(mise activate bash)"`, "zsh": `eval "$(mise activate zsh)"`, "fish": "mise activate fish | source",
			"elvish": "eval (mise activate elvish | slurp)\"activate\n\"", "nu": `use "HOME/mise.nu"`, // it has no hook for tcsh
		},
	},
}

// writeToolConfig writes and approves the tool's config in the project's directory.
func (w *testEnv) writeToolConfig(tool environmentTool, root, token string, age time.Duration) {
	w.t.Helper()
	path := filepath.Join(root, tool.file)
	when := time.Now().Add(-age) // direnv misses a second change within the same second
	if err := errors.Join(os.WriteFile(path, []byte(tool.text(root, token)), 0o600), os.Chtimes(path, when, when)); err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(tool.allow[0], tool.allow[1:]...)
	cmd.Dir, cmd.Env = root, w.env
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("%s: %v\n%s", tool.allow, err, out)
	}
}

// pathEntries returns the entries of PATH in the project's directory, relative to it, and one other if there are several.
func pathEntries(env map[string]string, root string) string {
	var ours []string
	for entry := range strings.SplitSeq(env["PATH"], ":") {
		if name, ok := strings.CutPrefix(entry, root+"/"); ok {
			ours = append(ours, name)
		}
	}
	return strings.Join(ours, " ")
}

func TestShell_WorksBesideOtherHooks(t *testing.T) {
	for name, tool := range environmentTools {
		for _, order := range []string{"before", "after"} {
			t.Run(name+" "+order, func(t *testing.T) {
				if _, err := exec.LookPath(name); err != nil {
					t.Skipf("%s is not installed", name)
				}
				eachShell(t, func(t *testing.T, kind string) {
					if !tool.supports(kind, order) {
						return
					}
					w := newTestEnv(t)
					w.env = append(w.env, "DIRENV_LOG_FORMAT=", "MISE_YES=1", "MISE_NOT_FOUND_AUTO_INSTALL=0", "MISE_OFFLINE=1")
					root := w.project("")
					w.writeFile(root, ".localport.toml", "linger = 0.1\n[env]\nU = \"${TOKEN}\"\nSHARED = \"ours\"\nPATH = \""+root+"/ours:${PATH}\"\n")
					for _, dir := range []string{"ours", "theirs", "sub"} {
						if err := os.Mkdir(filepath.Join(root, dir), 0o700); err != nil {
							t.Fatal(err)
						}
					}
					w.mustRun(root, "allow")
					w.writeToolConfig(tool, root, "one", time.Hour)
					start := func(dir string) *shellpty.Shell { return w.otherHookShell(tool, kind, order, "", dir) }
					sh := start(w.home)
					sh.Run(runTrue(kind))
					before := sh.Environ()
					expectInside := func(when, token string) {
						t.Helper()
						env := sh.Environ()
						if env["U"] != token || env["TOKEN"] != token || env["SHARED"] != "ours" {
							t.Errorf("%s: TOKEN=%q U=%q, want %q; SHARED=%q", when, env["TOKEN"], env["U"], token, env["SHARED"])
						}
						if entries := pathEntries(env, root); entries != "ours theirs" && entries != "theirs ours" {
							t.Errorf("%s: PATH has the entries %q of the project: %s", when, entries, env["PATH"])
						}
					}
					for _, round := range []string{"first", "second"} {
						sh.Run("cd " + root)
						if out := sh.Output(); strings.Contains(out, "TOKEN") && strings.Contains(out, "localport") {
							t.Errorf("%s: entering printed\n%s", round, out)
						}
						expectInside(round+" time", "one")
						sh.Run("cd sub")
						expectInside(round+" time, in a subdirectory", "one")
						names := []string{"U", "TOKEN", "SHARED", "PATH", "LOCALPORT_DIFF"}
						if round == "second" {
							w.writeToolConfig(tool, root, "two", 0)
							sh.Run(runTrue(kind))
							expectInside("after a change", "two")
						}
						sh.Run("cd " + w.home)
						sh.Run(runTrue(kind))
						after := sh.Environ()
						for _, name := range names {
							if after[name] != before[name] || hasVariable(after, name) != hasVariable(before, name) {
								t.Errorf("%s time: after leaving %s=%q, before %q", round, name, after[name], before[name])
							}
						}
					}

					// The other's config appears while the shell is inside.
					if err := os.Remove(filepath.Join(root, tool.file)); err != nil {
						t.Fatal(err)
					}
					sh = start(w.home)
					sh.Run(runTrue(kind))
					sh.Run("cd " + root)
					if out := sh.Output(); !strings.Contains(out, "TOKEN") {
						t.Errorf("without TOKEN entering printed\n%s", out)
					}
					w.writeToolConfig(tool, root, "three", 0)
					sh.Run(runTrue(kind))
					expectInside("the file has appeared", "three")
					sh.Run("cd " + w.home)
					sh.Run(runTrue(kind))
					after := sh.Environ()
					for _, name := range []string{"U", "TOKEN", "SHARED", "PATH"} {
						if after[name] != before[name] || hasVariable(after, name) != hasVariable(before, name) {
							t.Errorf("after the file appeared and leaving: %s=%q, before %q", name, after[name], before[name])
						}
					}

					sh = start(root) // a shell that starts in the project
					expectInside("a new shell", "three")
				}, otherShells...)
			})
		}
	}
}

// otherHookShell starts a shell in which the tool's hook is before or after ours.
func (w *testEnv) otherHookShell(tool environmentTool, kind, order, setup, dir string) *shellpty.Shell {
	w.t.Helper()
	own := `eval "$(` + w.exe + ` hook ` + kind + `)"`
	switch kind {
	case "fish":
		own = w.exe + " hook fish | source"
	case "tcsh":
		own = "eval \"`" + w.exe + " hook tcsh`\""
	case "elvish":
		own = "eval (" + w.exe + " hook elvish | slurp)"
	case "nu":
		own = w.mustRun(w.home, "hook", "nu")
	}
	theirs := strings.ReplaceAll(tool.hook[kind], "HOME", w.home)
	if strings.Contains(theirs, "mise.nu") {
		cmd := exec.Command("mise", "activate", "nu")
		cmd.Env = w.env
		out, err := cmd.Output()
		if err != nil {
			w.t.Fatal(err)
		}
		w.writeFile(w.home, "mise.nu", string(out))
	}
	rc := setup + "\n" + own + "\n" + theirs + "\n"
	if order == "before" {
		rc = setup + "\n" + theirs + "\n" + own + "\n"
	}
	return shellpty.Start(w.t, shellpty.Config{Shell: kind, RC: rc, Dir: dir, Home: w.home, Env: w.env[2:]})
}

// supports reports whether the tool and LocalPort can be in a shell in this order: both need the one alias precmd of tcsh, and direnv replaces it.
func (tool environmentTool) supports(kind, order string) bool {
	return tool.hook[kind] != "" && (kind != "tcsh" || order == "before")
}

// The project and another tool set the same variables, and both add to PATH. Inside, the project's value counts, whatever the tool does meanwhile;
// outside, there is what was there before both.
func TestShell_SetsWhatAnotherHookSetsToo(t *testing.T) {
	for name, tool := range environmentTools {
		for _, order := range []string{"before", "after"} {
			t.Run(name+" "+order, func(t *testing.T) {
				if _, err := exec.LookPath(name); err != nil {
					t.Skipf("%s is not installed", name)
				}
				eachShell(t, func(t *testing.T, kind string) {
					if !tool.supports(kind, order) {
						return
					}
					w := newTestEnv(t)
					w.env = append(w.env, "DIRENV_LOG_FORMAT=", "MISE_YES=1", "MISE_NOT_FOUND_AUTO_INSTALL=0", "MISE_OFFLINE=1")
					root := w.project("")
					w.writeFile(root, ".localport.toml", "linger = 0.1\n[env]\nSHARED = \"ours\"\nUNSET = \"ours\"\nUNEXPORTED = \"ours\"\nOWN = \"ours\"\nPATH = \""+root+"/ours:${PATH}\"\n")
					for _, dir := range []string{"ours", "theirs", "sub"} {
						if err := os.Mkdir(filepath.Join(root, dir), 0o700); err != nil {
							t.Fatal(err)
						}
					}
					w.mustRun(root, "allow")
					w.writeToolConfig(tool, root, "one", time.Hour)
					setup := map[string]string{
						"bash": "export SHARED=outside; UNEXPORTED=outside", "zsh": "export SHARED=outside; UNEXPORTED=outside",
						"fish": "set -gx SHARED outside; set -g UNEXPORTED outside",
						"tcsh": "setenv SHARED outside", "elvish": "set-env SHARED outside", "nu": "$env.SHARED = 'outside'",
					}[kind]
					sh := w.otherHookShell(tool, kind, order, setup, w.home)
					sh.Run(runTrue(kind))
					before := sh.Environ()
					expect := func(when, own, theirs string) {
						t.Helper()
						env := sh.Environ()
						for name, want := range map[string]string{"SHARED": "ours", "UNSET": "ours", "UNEXPORTED": "ours", "OWN": own} {
							if env[name] != want {
								t.Errorf("%s: %s=%q, want %q", when, name, env[name], want)
							}
						}
						want := strings.TrimSpace("ours " + theirs)
						if entries := pathEntries(env, root); entries != want {
							t.Errorf("%s: PATH has the entries %q of the project, want %q", when, entries, want)
						}
					}
					forbid := func() {
						if tool.forbid == nil || kind == "elvish" { // there, direnv's hook ends at the error that the file is not allowed
							if err := os.Remove(filepath.Join(root, tool.file)); err != nil {
								t.Fatal(err)
							}
							sh.Run(runTrue(kind))
							return
						}
						cmd := exec.Command(tool.forbid[0], tool.forbid[1:]...)
						cmd.Dir, cmd.Env = root, w.env
						if out, err := cmd.CombinedOutput(); err != nil {
							t.Fatalf("%s: %v\n%s", tool.forbid, err, out)
						}
						sh.Run(runTrue(kind))
					}
					set := map[string]string{"bash": "export OWN=mine", "zsh": "export OWN=mine", "fish": "set -gx OWN mine", "tcsh": "setenv OWN mine", "elvish": "set-env OWN mine", "nu": "$env.OWN = 'mine'"}[kind]
					for _, last := range []string{"active", "touched", "revoked", "approved again"} {
						sh.Run("cd " + root)
						expect("entered", "ours", "theirs")
						sh.Run("cd sub")
						expect("in a subdirectory", "ours", "theirs")
						sh.Run("cd ..")
						sh.Run(set)
						own := "mine"
						if last != "active" {
							w.writeToolConfig(tool, root, "two", 40*time.Minute)
							sh.Run(runTrue(kind))
							expect("after a change of the other's file", own, "theirs")
						}
						if last == "revoked" || last == "approved again" {
							forbid()
							expect("after the approval was revoked", own, "")
						}
						if last == "approved again" {
							w.writeToolConfig(tool, root, "three", 20*time.Minute)
							sh.Run(runTrue(kind))
							expect("approved again", own, "theirs")
						}
						sh.Run("cd " + w.home)
						sh.Run(runTrue(kind))
						after := sh.Environ()
						for _, name := range []string{"SHARED", "UNSET", "UNEXPORTED", "PATH", "TOKEN"} {
							if after[name] != before[name] || hasVariable(after, name) != hasVariable(before, name) {
								t.Errorf("left while the other was %s: %s=%q, before %q", last, name, after[name], before[name])
							}
						}
						w.writeToolConfig(tool, root, "one", time.Hour)
						sh.Run(map[string]string{"bash": "unset OWN", "zsh": "unset OWN", "fish": "set -e OWN", "tcsh": "unsetenv OWN", "elvish": "unset-env OWN", "nu": "hide-env OWN"}[kind])
					}
				}, otherShells...)
			})
		}
	}
}

// hiddenVariables are lines that set variables of the user in ways that a program cannot see, and the code that prints one of them as it is. All have
// names that the project and the other tool set too. There is no array of zsh: the statements of direnv and mise fail at one, and end there.
var hiddenVariables = map[string]struct {
	set  map[string]string // by name
	show string            // a format for the name
}{
	"bash": {
		map[string]string{
			"UNEXPORTED": "UNEXPORTED='out  side'", "NUMBER": "declare -i NUMBER=7", "UPPER": "declare -u UPPER=abc", "LIST": "LIST=(a 'b c' '')",
			"MAP": "declare -A MAP=([k]='v w')", "EXPORTEDNUMBER": "declare -ix EXPORTEDNUMBER=7", "EMPTY": "EMPTY=", "EXPORTED": "export EXPORTED='out  side'",
		}, `"$(declare -p %s 2>/dev/null || echo unset)"`,
	},
	"zsh": {
		map[string]string{
			"UNEXPORTED": "UNEXPORTED='out  side'", "NUMBER": "typeset -i NUMBER=7", "UPPER": "typeset -u UPPER=abc",
			"EXPORTEDNUMBER": "typeset -ix EXPORTEDNUMBER=7", "EMPTY": "EMPTY=", "EXPORTED": "export EXPORTED='out  side'",
		}, `"$(typeset -p %s 2>/dev/null || echo unset)"`,
	},
	"fish": {
		map[string]string{
			"UNEXPORTED": "set -g UNEXPORTED 'out  side'", "LIST": "set -g LIST a 'b c' ''", "EXPORTEDLIST": "set -gx EXPORTEDLIST a 'b c'",
			"UNIVERSAL": "set -U UNIVERSAL mine", "EMPTY": "set -g EMPTY", "EXPORTED": "set -gx EXPORTED 'out  side'",
		}, `(set -S %s | string collect; or echo unset)`,
	},
}

// What the user has by a name that the project and another tool set is not damaged more than the tool alone does: such a tool knows the environment
// only, and unsets what it has not found there.
func TestShell_RestoresTheUsersVariablesBesideOtherHooks(t *testing.T) {
	for name, tool := range environmentTools {
		for _, order := range []string{"before", "after"} {
			t.Run(name+" "+order, func(t *testing.T) {
				if _, err := exec.LookPath(name); err != nil {
					t.Skipf("%s is not installed", name)
				}
				eachShell(t, func(t *testing.T, kind string) {
					user := hiddenVariables[kind]
					names := slices.Sorted(maps.Keys(user.set))
					var config, envrc, mise strings.Builder
					for _, name := range names {
						fmt.Fprintf(&config, "%s = \"12\"\n", name)
						fmt.Fprintf(&envrc, "export %s=34\n", name)
						fmt.Fprintf(&mise, "%s = \"34\"\n", name)
					}
					tool := tool
					tool.text = func(string, string) string {
						if tool.file == ".envrc" {
							return envrc.String()
						}
						return "[env]\n" + mise.String()
					}
					visit := func(hooks, config string) (before, shownInside, inside, after map[string]string) {
						w := newTestEnv(t)
						w.env = append(w.env, "DIRENV_LOG_FORMAT=", "MISE_YES=1", "MISE_NOT_FOUND_AUTO_INSTALL=0", "MISE_OFFLINE=1")
						root := w.project("")
						w.writeFile(root, ".localport.toml", "linger = 0.1\n[env]\n"+config)
						w.mustRun(root, "allow")
						if strings.Contains(hooks, name) {
							w.writeToolConfig(tool, root, "one", time.Hour)
						}
						var rc strings.Builder
						for _, name := range names {
							rc.WriteString(user.set[name] + "\n")
						}
						for hook := range strings.FieldsSeq(hooks) {
							switch {
							case hook == "assignments":
								for _, name := range names {
									fmt.Fprintf(&rc, "export %s=34\n", name)
								}
							case hook != "localport":
								rc.WriteString(tool.hook[kind] + "\n")
							case kind == "fish":
								rc.WriteString(w.exe + " hook fish | source\n")
							default:
								rc.WriteString(`eval "$(` + w.exe + ` hook ` + kind + `)"` + "\n")
							}
						}
						sh := shellpty.Start(t, shellpty.Config{Shell: kind, RC: rc.String(), Dir: w.home, Home: w.home, Env: w.env[2:]})
						show := func() map[string]string {
							values := make(map[string]string)
							for _, name := range names {
								values[name] = strings.TrimSpace(sh.Eval(fmt.Sprintf(user.show, name)))
							}
							return values
						}
						sh.Run("cd .")
						before = show()
						sh.Run("cd " + root)
						inside = sh.Environ()
						shownInside = show()
						sh.Run("cd " + w.home)
						for range 3 {
							sh.Run("cd .")
						}
						return before, shownInside, inside, show()
					}
					// mise unsets an array of bash before it sets the variable, or sets an element of it, and at leaving removes it or leaves it as it is:
					// each happens.
					_, aloneInside, _, alone := visit(name, config.String())
					assigned, _, _, _ := visit("assignments", "")
					hooks := "localport " + name
					if order == "before" {
						hooks = name + " localport"
					}
					before, _, inside, after := visit(hooks, config.String())
					for _, name := range names {
						if inside[name] != "12" {
							t.Errorf("inside, %s is %q", name, inside[name])
						}
						isArray := strings.HasPrefix(before[name], "declare -a") || strings.HasPrefix(before[name], "declare -A")
						isKept := alone[name] == "unset" && after[name] == aloneInside[name] || isArray && after[name] == assigned[name]
						if after[name] != before[name] && after[name] != alone[name] && !isKept {
							t.Errorf("%s: after leaving %q, before %q, with the other tool alone %q, inside %q", name, after[name], before[name], alone[name], aloneInside[name])
						}
					}
				})
			})
		}
	}
}
