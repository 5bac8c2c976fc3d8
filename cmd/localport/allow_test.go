package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/shellpty"
)

const allowedConfig = `[services.web]
technology = "tcp"
local_port = 18080
remote_port = 80
connection = { remote_host = "web.staging" }
health_check = { type = "postgres", user = "me", password = "hunter22" }
[services.docs]
technology = "command"
command = ["python3", "-m", "http.server", "{port}"]
local_port = 18081
[env]
URL = "http://${web.addr}"
`

func TestAllow_ShowsWhatChanged(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.project(allowedConfig)
	allow := func(want string) {
		t.Helper()
		o := w.localport(root, "allow")
		want += "localport: allowed " + root + "/.localport.toml\n"
		if o.code != 0 || o.stdout != "" || o.stderr != want {
			t.Errorf("exit %d, stdout %q\n%s\nwant\n%s", o.code, o.stdout, o.stderr, want)
		}
	}
	config := func(replace ...string) {
		w.writeFile(root, ".localport.toml", strings.NewReplacer(replace...).Replace(allowedConfig))
	}
	allow(`localport: .localport.toml is allowed for the first time:
  web  :18080  tcp web.staging:80
  docs :18081  command python3
  docs runs    python3 -m http.server {port}
  sets URL
`)
	allow("")
	config("web.staging", "web.production")
	w.writeFile(root, ".env", "TOKEN=dotenvvalue\n")
	allow(`--- .localport.toml
+++ .localport.toml
@@ -2,7 +2,7 @@
 technology = "tcp"
 local_port = 18080
 remote_port = 80
-connection = { remote_host = "web.staging" }
+connection = { remote_host = "web.production" }
 health_check = { type = "postgres", user = "me", password = "***" }
 [services.docs]
 technology = "command"
--- /dev/null
+++ .env
@@ -0,0 +1,1 @@
+TOKEN=***
localport: *** stands for a secret
`)
	config("web.staging", "web.production", "hunter22", "hunter23")
	w.writeFile(root, ".env", "TOKEN=dotenvvalue2\n")
	allow(".localport.toml: a secret changed, which is not shown\n.env: a secret changed, which is not shown\n")
	for _, path := range w.copies() {
		text, err := os.ReadFile(path)
		info, statErr := os.Stat(path)
		if err != nil || statErr != nil || info.Mode().Perm() != 0o600 || strings.Contains(string(text), "hunter") || strings.Contains(string(text), "dotenvvalue") {
			t.Errorf("%s, %v %v: %s", path, err, statErr, text)
		}
	}
	w.mustRun(root, "deny")
	if copies := w.copies(); len(copies) > 0 {
		t.Errorf("deny keeps %v", copies)
	}
}

// copies are the copies of what was allowed.
func (w *testEnv) copies() []string {
	paths, err := filepath.Glob(filepath.Join(w.home, "data/localport/trust/*.copy"))
	if err != nil {
		w.t.Fatal(err)
	}
	return paths
}

func TestAllow_ShowsNoMoreThanFits(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(allowedConfig)
	w.writeFile(root, ".localport.toml", allowedConfig+strings.Repeat("# more\n", 200))
	if o := w.localport(root, "allow"); strings.Count(o.stderr, "\n") != maxReviewLines+1 || !strings.Contains(o.stderr, "\n147 more lines changed\n") {
		t.Errorf("%d lines:\n%s", strings.Count(o.stderr, "\n"), o.stderr)
	}
}

func TestAllow_RefusesMistakesWithAllOfThem(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(allowedConfig)
	w.writeFile(root, ".localport.toml", strings.NewReplacer("remote_port", "remot_port", "18081", "80800").Replace(allowedConfig))
	o := w.localport(root, "allow")
	if o.code != output.ExitInvalid || !strings.Contains(o.stderr, ".localport.toml:4:1:") || !strings.Contains(o.stderr, ".localport.toml:10:14:") ||
		!strings.HasSuffix(o.stderr, "hint: nothing was allowed; correct the file, then run \"localport allow\" again\n") {
		t.Errorf("exit %d\n%s", o.code, o.stderr)
	}
	if o := w.localport(root, "start"); o.code != output.ExitInvalid || !strings.Contains(o.stderr, ".localport.toml:4:1:") {
		t.Errorf("start: exit %d\n%s", o.code, o.stderr)
	}
	w.writeFile(root, ".localport.toml", allowedConfig+"OTHER = \"${web.prot}\"\n")
	if o := w.localport(root, "allow"); o.code != output.ExitInvalid || !strings.Contains(o.stderr, ".localport.toml:13:9:") {
		t.Errorf("exit %d\n%s", o.code, o.stderr)
	}
}

// The supervisor may be started in a shell where the variable is set.
func TestAllow_AcceptsAVariableThatIsNotSetHere(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.project(strings.Replace(allowedConfig, "web.staging", "${WEB_HOST}", 1))
	o := w.localport(root, "allow")
	if o.code != 0 || !strings.Contains(o.stderr, "warning: "+root+"/.localport.toml:5:30:") || !strings.Contains(o.stderr, "services: docs, web\n") {
		t.Errorf("exit %d\n%s", o.code, o.stderr)
	}
}

// An older version writes a record without a copy, and reads one beside which there is a copy.
func TestAllow_RecordsStayReadableByOlderVersions(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(allowedConfig)
	records, err := filepath.Glob(filepath.Join(w.home, "data/localport/trust/*.json"))
	if err != nil || len(records) != 1 {
		t.Fatalf("%v, %v", records, err)
	}
	var record map[string]any
	data, err := os.ReadFile(records[0])
	if err != nil || json.Unmarshal(data, &record) != nil {
		t.Fatalf("%s, %v", data, err)
	}
	for key := range record {
		if key != "version" && key != "path" && key != "allowed" {
			t.Errorf("the record has %q", key)
		}
	}
	for _, path := range w.copies() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	w.writeFile(root, ".localport.toml", allowedConfig+"# more\n")
	if o := w.localport(root, "allow"); o.code != 0 || !strings.Contains(o.stderr, "kept no copy to compare with:\n  web  :18080") || len(w.copies()) != 1 {
		t.Errorf("exit %d\n%s", o.code, o.stderr)
	}
}

// An agent has no terminal.
func TestAllow_NeedsATerminalIfTheUserSaysSo(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.project(allowedConfig)
	w.writeUserConfig("[trust]\nterminal = true\n")
	o := w.localport(root, "allow")
	if o.code != output.ExitNotAllowed || !strings.Contains(o.stderr, "[trust] terminal = true") || !strings.Contains(o.stderr, "hint: ask the user to") {
		t.Errorf("exit %d\n%s", o.code, o.stderr)
	}
	if o := w.localport(root, "start"); o.code != output.ExitNotAllowed {
		t.Errorf("start: exit %d\n%s", o.code, o.stderr)
	}
	sh := shellpty.Start(t, shellpty.Config{Shell: "bash", Dir: root, Home: w.home, Env: w.env[2:]})
	if sh.Run(w.exe + " allow"); !strings.Contains(sh.Output(), "allowed "+root) {
		t.Errorf("at a terminal: %s", sh.Screen())
	}
	w.writeUserConfig("[trust]\nterminal = true\noops = 1\n")
	if o := w.localport(root, "allow"); o.code != output.ExitInvalid {
		t.Errorf("with an invalid user config: exit %d\n%s", o.code, o.stderr)
	}
}

func TestPrompt_NamesTheFirstMistake(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnv(t)
		config := "linger = 0.1\n" + tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0"))
		root := w.allowedProject(config)
		sh := w.shell(kind, root)
		edit := func(text, want string) {
			t.Helper()
			w.writeFile(root, ".localport.toml", text)
			out := ""
			// A shell that has seen a change before the supervisor has may need another prompt.
			eventually(t, "the prompt prints something", func() bool {
				sh.Run(runTrue(kind))
				out = strings.Join(strings.Fields(sh.Output()), " ")
				return out != ""
			})
			before, after, _ := strings.Cut(want, "…")
			if !strings.HasPrefix(out, before) || !strings.HasSuffix(out, after) || after == "" && out != want {
				t.Errorf("the prompt printed %q\nwant %q", out, want)
			}
		}
		edit(config+"tag = 1\n",
			`localport: .localport.toml:7:1: services.web.tag: unknown key; did you mean "tags"? (still using the previous config; correct it, then run "localport allow")`)
		edit(config+"tag = 1\noops = 2\n",
			`localport: .localport.toml:7:1: services.web.tag: unknown key; did you mean "tags"? (and 1 more; still using the previous config; correct them, then run "localport allow")`)
		edit(config+"[services.x\n",
			`localport: .localport.toml:7:12: …(still using the previous config; correct it, then run "localport allow")`)
		edit(config+"# fine\n", `localport: .localport.toml changed; still using the previous config until you run "localport allow"`)
		w.mustRun(root, "allow")
		sh.Run(runTrue(kind))
		if out := sh.Output(); out != "" {
			t.Errorf("the prompt after allow printed %q", out)
		}
	}, "tcsh", "elvish", "nu")
}

func TestPrompt_NamesTheFirstMistakeOfANewProject(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.project("[services.web]\ntechnology = \"tpc\"\n")
	sh := w.shell("bash", w.home)
	sh.Run("cd " + root)
	if out := strings.Join(strings.Fields(sh.Output()), " "); !strings.HasPrefix(out, "localport: .localport.toml:1:11: ") || !strings.HasSuffix(out, `more; correct them, then run "localport allow")`) {
		t.Errorf("entering printed %q", out)
	}
}
