package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/project"
)

// writeUserConfig writes the user's config and returns its path.
func (w *testEnv) writeUserConfig(config string) (path string) {
	w.t.Helper()
	dir := filepath.Join(w.home, "config/localport")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		w.t.Fatal(err)
	}
	w.writeFile(dir, project.UserConfigName, config)
	return filepath.Join(dir, project.UserConfigName)
}

func TestPrompt_PrintsAsMuchAsVerbosityAsks(t *testing.T) {
	for verbosity, c := range map[string]struct{ in, out string }{
		"quiet":   {"", ""},
		"normal":  {"shop: web :", ""},
		"verbose": {"+WEB_HOST +WEB_PORT", "localport: -WEB_HOST -WEB_PORT"},
	} {
		t.Run(verbosity, func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t)
			w.writeUserConfig(`verbosity = "` + verbosity + `"`)
			root := w.project("linger = 0.1\n" + tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
			sh := w.shell("bash", w.home)
			sh.Run("cd " + root)
			if out := sh.Output(); !strings.Contains(out, "localport allow") {
				t.Errorf("the prompt does not ask for approval: %q", out)
			}
			w.mustRun(root, "allow")
			sh.Run("true")
			if out := sh.Output(); !strings.Contains(out, c.in) || c.in == "" && out != "" {
				t.Errorf("entering printed %q, want %q", out, c.in)
			}
			if sh.Environ()["WEB_PORT"] == "" {
				t.Error("the variables are not set")
			}
			sh.Run("cd /")
			if out := sh.Output(); !strings.Contains(out, c.out) || c.out == "" && out != "" {
				t.Errorf("leaving printed %q, want %q", out, c.out)
			}
		})
	}
}

func TestUserConfig_InvalidFileIsReportedOnceAndStopsNoProject(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	path := w.writeUserConfig("verbosty = \"quiet\"\nlinger = \"soon\"\n")
	root := w.allowedProject("linger = 0.1\n" + tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	sh := w.shell("bash", w.home)
	sh.Run("cd " + root)
	want := "localport: warning: " + path + `:1:1: verbosty: unknown key; did you mean "verbosity"? (and 1 more); run "localport config validate"`
	// The terminal wraps long lines.
	if out := strings.NewReplacer("\r", "", "\n", "").Replace(sh.Output()); !strings.Contains(out, want) || !strings.Contains(out, "shop: web :") {
		t.Errorf("entering printed %q", out)
	}
	for _, line := range []string{"true", "cd /"} {
		sh.Run(line)
		if out := sh.Output(); out != "" {
			t.Errorf("%s: the prompt printed %q", line, out)
		}
	}
	o := w.localport(root, "config", "validate")
	if o.code != output.ExitInvalid || !strings.Contains(o.stderr, path+":2:10: linger: ") {
		t.Errorf("config validate: exit %d, %s", o.code, o.stderr)
	}
	w.writeUserConfig("linger = 60\n")
	w.mustRun(root, "config", "validate")
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if o := w.localport(root, "config", "validate"); o.code != output.ExitInvalid || !strings.Contains(o.stderr, "chmod go-w "+path) {
		t.Errorf("config validate of a file that all can write to: exit %d, %s", o.code, o.stderr)
	}
}
