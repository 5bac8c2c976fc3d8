package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/testdata/shellpty"
)

// setEditor makes a shell script, which gets the file as $1, the user's editor.
func (w *testEnv) setEditor(script string) {
	w.t.Helper()
	w.writeFile(w.home, "editor", "#!/bin/sh\n"+script+"\n")
	path := filepath.Join(w.home, "editor")
	if err := os.Chmod(path, 0o700); err != nil {
		w.t.Fatal(err)
	}
	w.env = append(w.env, "VISUAL="+path, "TMPDIR="+w.home)
}

func TestEdit_WritesWhatIsValid(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(quietConfig)
	w.setEditor(`sed -i "s/remote_port = 80/remote_port = $PORT/" "$1"`)
	w.env = append(w.env, "PORT=81")
	o := w.localport(root, "edit")
	if o.code != 0 || !strings.Contains(o.stderr, "-remote_port = 80\n+remote_port = 81\n") || !strings.Contains(o.stderr, `allow"`) {
		t.Errorf("exit %d\n%s", o.code, o.stderr)
	}
	if text := readText(t, root, ".localport.toml"); text != strings.Replace(quietConfig, "80", "81", 1) {
		t.Errorf("the config is\n%s", text)
	}
	if w.isAllowed(root) {
		t.Error("without a terminal, the change is allowed")
	}
	if o := w.localport(root, "edit"); o.code != 0 || !strings.Contains(o.stderr, "is unchanged") {
		t.Errorf("exit %d\n%s", o.code, o.stderr)
	}
	if left, _ := filepath.Glob(filepath.Join(w.home, "localport-edit-*")); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
}

var keptPattern = regexp.MustCompile(`your text is in (\S+)`)

func TestEdit_NeverLosesTheText(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script, after string // the config after it; empty: as before
		code          int
		kept          string
	}{
		"a mistake":           {script: `echo 'oops = 1' >> "$1"`, code: output.ExitInvalid, kept: quietConfig + "oops = 1\n"},
		"no TOML":             {script: `echo '[x' >> "$1"`, code: output.ExitInvalid, kept: quietConfig + "[x\n"},
		"an error":            {script: `echo '# x' >> "$1"; exit 3`, code: output.ExitFailed, kept: quietConfig + "# x\n"},
		"an unchanged error":  {script: `exit 3`, code: output.ExitFailed},
		"changed by another":  {script: `echo '# x' >> "$1"; echo '# y' >> .localport.toml`, code: output.ExitFailed, kept: quietConfig + "# x\n", after: quietConfig + "# y\n"},
		"deleted by another":  {script: `echo '# x' >> "$1"; rm .localport.toml`, code: output.ExitFailed, kept: quietConfig + "# x\n", after: "gone"},
		"the copy is deleted": {script: `rm "$1"`, code: output.ExitFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t)
			root := w.allowedProject(quietConfig)
			w.setEditor(c.script)
			o := w.localport(root, "edit")
			if o.code != c.code {
				t.Errorf("exit %d\n%s", o.code, o.stderr)
			}
			kept := ""
			if match := keptPattern.FindStringSubmatch(o.stderr); match != nil {
				kept = readText(t, "", match[1])
			}
			if kept != c.kept {
				t.Errorf("kept is\n%s\nit printed\n%s", kept, o.stderr)
			}
			text, _ := os.ReadFile(filepath.Join(root, ".localport.toml"))
			if want := map[string]string{"": quietConfig, "gone": ""}[c.after]; string(text) != want && string(text) != c.after {
				t.Errorf("the config is\n%s", text)
			}
		})
	}
}

func TestEdit_WritesAnEmptyTextOnlyIfItIsMeant(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(quietConfig)
	for _, script := range []string{`: > "$1"`, `echo "# nothing" > "$1"`} {
		w.setEditor(script)
		o := w.localport(root, "edit")
		for _, want := range []string{
			"localport: the edited config has no keys; not written\n",
			"hint: to remove services: localport remove NAME…; to remove the file: rm .localport.toml\nhint: " + root + "/.localport.toml is unchanged; your text is in ",
		} {
			if o.code != output.ExitFailed || !strings.Contains(o.stderr, want) || readText(t, root, ".localport.toml") != quietConfig {
				t.Errorf("%s: exit %d\n%s", script, o.code, o.stderr)
			}
		}
	}
	sh := shellpty.Start(t, shellpty.Config{Shell: "bash", Dir: root, Home: w.home, Env: w.env[2:]})
	edit := func(answer string) {
		sh.Type(w.exe + " edit\r")
		eventually(t, "it asks", func() bool { return strings.HasSuffix(strings.TrimSpace(sh.Screen()), "Write it all the same? [y/N]:") })
		sh.Type(answer + "\r")
	}
	edit("")
	sh.AwaitPrompt()
	if text := readText(t, root, ".localport.toml"); text != quietConfig || !strings.Contains(sh.Screen(), "your text is in ") {
		t.Errorf("the config is %q, the screen\n%s", text, sh.Screen())
	}
	edit("y")
	eventually(t, "it asks again", func() bool { return strings.HasSuffix(strings.TrimSpace(sh.Screen()), "Allow this change now? [Y/n]:") })
	sh.Type("n\r")
	sh.AwaitPrompt()
	if text := readText(t, root, ".localport.toml"); text != "# nothing\n" {
		t.Errorf("the config is %q, the screen\n%s", text, sh.Screen())
	}
	w.setEditor(`echo "# more" >> "$1"`) // of a file that had no keys
	if o := w.localport(root, "edit"); o.code != 0 {
		t.Errorf("exit %d\n%s", o.code, o.stderr)
	}
}

// At a terminal, mistakes are corrected at once, and the change is allowed if the user agrees.
func TestEdit_AsksAtATerminal(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(quietConfig)
	w.setEditor(`if grep -q oops "$1"; then sed -i '/oops/d; s/= 80/= 81/' "$1"; else echo 'oops = 1' >> "$1"; fi`)
	sh := shellpty.Start(t, shellpty.Config{Shell: "bash", Dir: root, Home: w.home, Env: w.env[2:]})
	awaitText := func(text string) {
		t.Helper()
		eventually(t, "the screen shows "+text, func() bool { return strings.Contains(sh.Screen(), text) })
	}
	sh.Type(w.exe + " edit\r")
	awaitText("Number [1]:")
	awaitText(".localport.toml:8:1: services.web.oops: unknown key")
	sh.Type("1\r")
	awaitText("Allow this change now? [Y/n]:")
	awaitText("+remote_port = 81")
	sh.Type("y\r")
	sh.AwaitPrompt()
	if screen := sh.Screen(); !strings.Contains(screen, "localport: allowed this change of") || !w.isAllowed(root) {
		t.Errorf("the screen is\n%s", screen)
	}

	sh.Type(w.exe + " edit\r")
	awaitText("discard the changes")
	eventually(t, "it asks again", func() bool { return strings.Count(sh.Screen(), "Number [1]:") == 2 })
	sh.Type("2\r")
	sh.AwaitPrompt()
	if text := readText(t, root, ".localport.toml"); text != strings.Replace(quietConfig, "80", "81", 1) {
		t.Errorf("the config is\n%s", text)
	}

	w.writeFile(root, ".env", "A=b\n")
	w.setEditor(`echo '# more' >> "$1"`)
	sh.Run(w.exe + " edit")
	if screen := sh.Screen(); !strings.Contains(screen, "localport: next: review it") || w.isAllowed(root) {
		t.Errorf("someone else's change of .env is allowed too:\n%s", screen)
	}
}
