package main

import (
	"errors"
	"fmt"
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
	// text returns a config that sets TOKEN to a value, SHARED to "theirs", and adds DIR/theirs to PATH.
	text  func(dir, token string) string
	allow []string // the command that approves the config
	// keepsShared: at each cd inside, the tool sets its variables again and takes ours for what was there before. It puts that back on
	// leaving, which cannot be told from a value that it has not touched: what it had set first is restored, and stays.
	keepsShared bool
	hook        map[string]string // by shell
}

var environmentTools = map[string]environmentTool{
	"direnv": {
		file: ".envrc",
		text: func(dir, token string) string {
			return fmt.Sprintf("export TOKEN=%s SHARED=theirs\nPATH_add %s/theirs\n", token, dir)
		},
		allow: []string{"direnv", "allow"},
		hook:  map[string]string{"bash": `eval "$(direnv hook bash)"`, "zsh": `eval "$(direnv hook zsh)"`, "fish": "direnv hook fish | source"},
	},
	"mise": {
		file: "mise.toml",
		text: func(dir, token string) string {
			return fmt.Sprintf("[env]\nTOKEN = %q\nSHARED = \"theirs\"\n_.path = [%q]\n", token, dir+"/theirs")
		},
		allow:       []string{"mise", "trust", "--quiet"},
		keepsShared: true,
		hook:        map[string]string{"bash": `eval "$(mise activate bash)"`, "zsh": `eval "$(mise activate zsh)"`, "fish": "mise activate fish | source"},
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
					own := `eval "$(` + w.exe + ` hook ` + kind + `)"`
					if kind == "fish" {
						own = w.exe + " hook fish | source"
					}
					rc := own + "\n" + tool.hook[kind]
					if order == "before" {
						rc = tool.hook[kind] + "\n" + own
					}
					start := func(dir string) *shellpty.Shell {
						return shellpty.Start(t, shellpty.Config{Shell: kind, RC: rc, Dir: dir, Home: w.home, Env: w.env[2:]})
					}
					sh := start(w.home)
					sh.Run("true")
					before := sh.Environ()
					expectInside := func(when, token string) {
						t.Helper()
						env := sh.Environ()
						if env["U"] != token || env["TOKEN"] != token {
							t.Errorf("%s: TOKEN=%q U=%q, want %q", when, env["TOKEN"], env["U"], token)
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
							sh.Run("true")
							expectInside("after a change", "two")
						}
						if tool.keepsShared {
							names = slices.DeleteFunc(names, func(name string) bool { return name == "SHARED" })
						}
						sh.Run("cd " + w.home)
						sh.Run("true")
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
					sh.Run("true")
					sh.Run("cd " + root)
					if out := sh.Output(); !strings.Contains(out, "TOKEN") {
						t.Errorf("without TOKEN entering printed\n%s", out)
					}
					w.writeToolConfig(tool, root, "three", 0)
					sh.Run("true")
					expectInside("the file has appeared", "three")
					sh.Run("cd " + w.home)
					sh.Run("true")
					after := sh.Environ()
					for _, name := range []string{"U", "TOKEN", "SHARED", "PATH"} {
						if after[name] != before[name] || hasVariable(after, name) != hasVariable(before, name) {
							t.Errorf("after the file appeared and leaving: %s=%q, before %q", name, after[name], before[name])
						}
					}

					sh = start(root) // a shell that starts in the project
					expectInside("a new shell", "three")
				})
			})
		}
	}
}
