package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/trust"
	"github.com/localport-sh/localport/testdata/shellpty"
)

// readText returns the contents of a file of the project.
func readText(t testing.TB, root, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// isAllowed reports whether the project's files are allowed as they are.
func (w *testEnv) isAllowed(root string) bool {
	w.t.Helper()
	files, err := project.ReadFiles(filepath.Join(root, project.ConfigName))
	if err != nil {
		w.t.Fatal(err)
	}
	verdict, _, err := trust.Store{Dir: filepath.Join(w.home, "data/localport/trust")}.Ask(files)
	if err != nil {
		w.t.Fatal(err)
	}
	return verdict == trust.Allowed
}

// quietConfig is a config whose services need no server to start.
const quietConfig = `# ours
[services.web]   # the web
technology = "tcp"
local_port = "auto"
remote_port = 80
connection = { remote_host = "127.0.0.1" }
start = "on-demand"
`

func TestAdd_ChangesNothingElseAndAllowsOnlyItsOwnChange(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(strings.ReplaceAll(quietConfig, "\n", "\r\n"))
	o := w.localport(root, "add", "kubectl port-forward -n db svc/postgres 5432")
	want := quietConfig + "\n[services.postgres]\ntechnology = \"kubectl\"\nlocal_port = 5432\nremote_port = 5432\n" +
		"connection = { resource_name = \"postgres\", namespace = \"db\" }\n"
	if got := readText(t, root, ".localport.toml"); o.code != 0 || got != strings.ReplaceAll(want, "\n", "\r\n") {
		t.Errorf("exit %d, %s\nthe config is\n%q", o.code, o.stderr, got)
	}
	if o.stdout != "" || !strings.Contains(o.stderr, "\n+[services.postgres]\n") || !strings.Contains(o.stderr, "localport: allowed this change") {
		t.Errorf("it printed %q and\n%s", o.stdout, o.stderr)
	}
	if o := w.localport(root, "allow"); o.stderr != "localport: allowed "+root+"/.localport.toml\n" {
		t.Errorf("allow after it: %s", o.stderr)
	}
}

func TestAdd_AllowsNothingThatWasNotAllowedBefore(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(quietConfig)
	for _, someone := range []struct{ name, text string }{{".localport.toml", quietConfig + "# changed\n"}, {".env", "A=b\n"}} {
		w.writeFile(root, ".localport.toml", quietConfig)
		w.writeFile(root, someone.name, someone.text)
		o := w.localport(root, "add", "tcp", "db.internal:15432")
		if o.code != 0 || !strings.Contains(o.stderr, `localport: next: review it, then run "localport -C `+root+` allow"`) && !strings.Contains(o.stderr, `run "localport allow"`) {
			t.Errorf("%s: exit %d\n%s", someone.name, o.code, o.stderr)
		}
		if w.isAllowed(root) {
			t.Errorf("after a change of %s by someone else, the files are allowed", someone.name)
		}
	}
}

func TestAdd_IsNotAllowedWithoutATerminalIfTheUserSaysSo(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(quietConfig + "[services.db]\ntechnology = \"tcp\"\nlocal_port = 15433\nremote_port = 1\nconnection = { remote_host = \"x\" }\n")
	w.writeUserConfig("[trust]\nterminal = true\n")
	w.env = append(w.env, "EDITOR=sh -c 'echo \"# more\" >> \"$1\"' x")
	for _, args := range [][]string{{"add", "tcp", "db.internal:15432"}, {"remove", "db"}, {"edit"}} {
		o := w.localport(root, args...)
		if o.code != 0 || !strings.Contains(o.stderr, "localport: wrote ") || strings.Contains(o.stderr, "allowed this change") {
			t.Errorf("%s: exit %d\n%s", args[0], o.code, o.stderr)
		}
		if w.isAllowed(root) {
			t.Errorf("%s has allowed its change", args[0])
		}
		w.writeUserConfig("")
		w.mustRun(root, "allow")
		w.writeUserConfig("[trust]\nterminal = true\n")
	}
}

func TestAdd_CreatesAConfigWhereThereIsNone(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.project("")
	if err := os.Remove(filepath.Join(root, ".localport.toml")); err != nil {
		t.Fatal(err)
	}
	o := w.localport(root, "add", "ssh", "-L", "6379:10.0.0.5:6379", "bastion")
	if text := readText(t, root, ".localport.toml"); o.code != 0 || !strings.HasPrefix(text, "#:schema ") || !strings.Contains(text, "\n\n[services.redis]\n") ||
		!strings.Contains(o.stderr, "localport: wrote "+root+"/.localport.toml\n") {
		t.Errorf("exit %d\n%s\nthe config is\n%s", o.code, o.stderr, text)
	}
	if w.isAllowed(root) {
		t.Error("a new config is allowed")
	}
	w.mustRun(root, "config", "validate")
	sub := filepath.Join(root, "sub")
	if err := os.Mkdir(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	if o := w.localport(sub, "add", "--local", "--name", "mine", "tcp", "db.internal:15432"); o.code != 0 || !strings.Contains(readText(t, root, ".localport.local.toml"), "[services.mine]") {
		t.Errorf("--local below the root: exit %d\n%s", o.code, o.stderr)
	}
}

func TestAdd_KeepsSecretsOutOfTheConfig(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(quietConfig)
	o := w.localport(root, "add", "shopdb", "postgres://app:hunter22@db.internal/shop")
	text, dotEnv := readText(t, root, ".localport.toml"), readText(t, root, ".env")
	if o.code != 0 || strings.Contains(text+o.stderr, "hunter22") || !strings.Contains(text, "\n[env]\nSHOPDB_URL = ") || dotEnv != "SHOPDB_PASSWORD='hunter22'\n" {
		t.Errorf("exit %d\n%s\nthe config is\n%s\n.env is\n%s", o.code, o.stderr, text, dotEnv)
	}
	if info, err := os.Stat(filepath.Join(root, ".env")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the mode of .env: %v, %v", info.Mode(), err)
	}
	o = w.localport(root, "add", "--name", "shopdb2", "postgres://app:other@db.internal/shop")
	if dotEnv := readText(t, root, ".env"); o.code != 0 || !strings.HasPrefix(dotEnv, "SHOPDB_PASSWORD='hunter22'\n") || strings.Contains(o.stderr, "other@") {
		t.Errorf("exit %d\n%s\n.env is\n%s", o.code, o.stderr, dotEnv)
	}
}

func TestAdd_SaysWhatIsThereAlreadyAndLosesNothing(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	config := quietConfig + "[services.db]\ntechnology = \"tcp\"\nlocal_port = 15432\nremote_port = 1\nconnection = { remote_host = \"x\" }\n"
	root := w.allowedProject(config)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"add", "--name", "db", "tcp", "db.internal:15432"}, output.ExitFailed, `service "db" exists already`},
		{[]string{"add", "kubectl", "get", "pods"}, output.ExitUsage, "hint: "},
		{[]string{"add"}, output.ExitUsage, ""},
		{[]string{"add", "db", "tcp://db.internal:15433"}, output.ExitFailed, `service "db" exists already`},
		{[]string{"add", "tcp", "db.internal:15433", "--dy-run"}, output.ExitUsage, "hint: did you mean \"--dry-run\"?"},
		{[]string{"add", "--dry-run", "tcp", "db.internal:15432"}, 0, `local port 15432 of db-2 becomes "auto": service "db" has port 15432`},
		{[]string{"remove", "dbb"}, output.ExitFailed, `did you mean "db"?`},
		{[]string{"remove", "--dry-run", "db"}, 0, "-[services.db]"},
	} {
		o := w.localport(root, c.args...)
		if o.code != c.code || !strings.Contains(o.stderr, c.want) {
			t.Errorf("%v: exit %d\n%s", c.args, o.code, o.stderr)
		}
		if text := readText(t, root, ".localport.toml"); text != config {
			t.Fatalf("%v: the config is\n%s", c.args, text)
		}
	}
	if o := w.localport(root, "add", "tcp", "db.internal:15432"); o.code != 0 || !strings.Contains(readText(t, root, ".localport.toml"), "[services.db-2]\n") {
		t.Errorf("a name and a port that are taken: exit %d\n%s", o.code, o.stderr)
	}
}

func TestAdd_ReadsTheStandardInput(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(quietConfig)
	for _, c := range []struct {
		text string
		args []string
		want string
	}{
		{"$ kubectl port-forward svc/api 8080:80 &\n", []string{"-", "--dry-run"}, "[services.api]\n"},
		{"ssh -NL 8080:10.0.0.5:80 bastion", []string{"--dry-run", "-", "--name", "front"}, "[services.front]\n"},
		{"", []string{"-"}, "localport: nothing to forward\n"},
		{"svc/api 80", []string{"-", "90"}, `localport: "90": only flags of localport may follow "-"`},
		{strings.Repeat("#", 70000), []string{"-"}, "localport: read the standard input: it has more than 64 KiB: give it the command lines only\n"},
	} {
		cmd := w.command(root, append([]string{"add"}, c.args...)...)
		cmd.Stdin = strings.NewReader(c.text)
		if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), c.want) || readText(t, root, ".localport.toml") != quietConfig {
			t.Errorf("%q: %s", c.args, out)
		}
	}
}

func TestAdd_PointsOutATargetThatTheProjectHas(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	config := quietConfig + "\n[services.db]\ntechnology = \"tcp\"\nlocal_port = 15432\nremote_port = 5432\nconnection = { remote_host = \"db.internal\" }\n"
	root := w.allowedProject(config)
	const found = `the project has this target already: service "db" at 127.0.0.1:15432`
	o := w.localport(root, "add", "tcp", "db.internal:5432")
	if want := "localport: not added: " + found + "\nhint: use that service; to add a second one, name it: localport add --name NAME …\n"; o.code != 1 || !strings.HasSuffix(o.stderr, want) ||
		readText(t, root, ".localport.toml") != config {
		t.Errorf("exit %d\n%s", o.code, o.stderr)
	}
	if o := w.localport(root, "add", "tcp", "db.internal:5432", "--dry-run"); o.code != 0 || !strings.Contains(o.stderr, "localport: "+found+"\n") || !strings.Contains(o.stdout, "[services.db-2]") {
		t.Errorf("exit %d\n%s%s", o.code, o.stdout, o.stderr)
	}

	sh := shellpty.Start(t, shellpty.Config{Shell: "bash", Dir: root, Home: w.home, Env: w.env[2:]})
	for answer, isAdded := range map[string]bool{"": false, "y": true} {
		sh.Type(w.exe + " add tcp db.internal:5432 25432\r")
		eventually(t, "it asks", func() bool { return strings.HasSuffix(strings.TrimSpace(sh.Screen()), "Add it all the same? [y/N]:") })
		sh.Type(answer + "\r")
		sh.AwaitPrompt()
		text := readText(t, root, ".localport.toml")
		if strings.Contains(text, "[services.db-2]") != isAdded || !strings.Contains(sh.Screen(), "localport: "+found) {
			t.Errorf("answer %q: the screen is\n%s", answer, sh.Screen())
		}
		w.writeFile(root, ".localport.toml", config)
	}

	for name, args := range map[string][]string{"main": {"tcp", "db.internal:5432", "--name", "main"}, "app": {"app", "tcp://db.internal:5432"}} {
		o := w.localport(root, append([]string{"add"}, args...)...)
		if o.code != 0 || !strings.Contains(o.stderr, "localport: "+found+"\n") || !strings.Contains(readText(t, root, ".localport.toml"), "["+"services."+name+"]") {
			t.Errorf("%q: exit %d\n%s", args, o.code, o.stderr)
		}
		w.writeFile(root, ".localport.toml", config)
	}
}

func TestAdd_LeavesFilesThatItCannotEdit(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	for text, want := range map[string]string{
		"services = { web = { technology = \"tcp\", local_port = 1, remote_port = 1, connection = { remote_host = \"x\" } } }\n": ".localport.toml:1:1: services is an inline table\nhint: ",
		"[services.web\n":        "hint: nothing was written; correct the file first: localport edit",
		quietConfig + "oops = 1": "hint: nothing was written; correct the file first: localport edit",
	} {
		root := w.project(text)
		for _, args := range [][]string{{"add", "tcp", "db.internal:15432"}, {"remove", "web"}} {
			if args[0] == "remove" && strings.HasPrefix(text, "#") {
				continue // that removes the mistake
			}
			o := w.localport(root, args...)
			if o.code == 0 || args[0] == "add" && !strings.Contains(o.stderr, want) || readText(t, root, ".localport.toml") != text {
				t.Errorf("%v: exit %d\n%s", args, o.code, o.stderr)
			}
		}
	}
}

func TestRemove_NamesWhatNeedsTheService(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	config := quietConfig + `
# The database.
[services.db]
technology = "tcp"
local_port = 15432
remote_port = 5432
connection = { remote_host = "db" }
depends_on = ["web"]

[env]
DB = "${db.addr}" # ours
WEB = "${web.addr}"
`
	root := w.allowedProject(config)
	w.writeFile(root, ".localport.local.toml", "[services.db]\nlocal_port = 15433\n")
	w.mustRun(root, "allow")
	o := w.localport(root, "remove", "web")
	want := root + "/.localport.toml:15:15: services.db.depends_on needs service \"web\"\n    depends_on = [\"web\"]\n" +
		root + "/.localport.toml:19:7: env.WEB needs service \"web\"\n    WEB = \"${web.addr}\"\n" +
		"hint: nothing was removed; to remove these too: localport remove --force web\n"
	if o.code != output.ExitFailed || o.stderr != want || readText(t, root, ".localport.toml") != config {
		t.Errorf("exit %d\n%s\nwant\n%s", o.code, o.stderr, want)
	}
	if o := w.localport(root, "remove", "--force", "db"); o.code != 0 || !strings.Contains(o.stderr, "allowed this change") {
		t.Errorf("exit %d\n%s", o.code, o.stderr)
	}
	if text := readText(t, root, ".localport.toml"); text != quietConfig+"\n[env]\nWEB = \"${web.addr}\"\n" {
		t.Errorf("the config is\n%s", text)
	}
	if local := readText(t, root, ".localport.local.toml"); local != "" {
		t.Errorf(".localport.local.toml is %q", local)
	}
	if !w.isAllowed(root) {
		t.Error("the change is not allowed")
	}
}

func TestRemove_LeavesNoTableThatItHasEmptied(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	const web = "[services.web]\ntechnology = \"tcp\"\nlocal_port = \"auto\"\nremote_port = 80\nconnection = { remote_host = \"web\" }\n"
	for text, want := range map[string]string{
		"# Ours.\nlinger = \"5s\"\n\n" + web + "\n# For the app.\n[env] # set here\n# the web\nWEB = \"${web.addr}\"\n# A = \"b\"\n":           "# Ours.\nlinger = \"5s\"\n\n# For the app.\n# set here\n# A = \"b\"\n",
		web + "\n[env]\nWEB = \"${web.addr}\"\nB = \"c\"\n":                                                                                    "[env]\nB = \"c\"\n",
		"[env]\nWEB = \"${web.addr}\"\nPORT = \"${web.port}\"\n\n" + web:                                                                       "",
		"[services]\nweb = { technology = \"tcp\", local_port = \"auto\", remote_port = 80, connection = { remote_host = \"web\" } }\n[env]\n": "[env]\n",
	} {
		root := w.allowedProject(text)
		if o := w.localport(root, "remove", "--force", "web"); o.code != 0 || readText(t, root, ".localport.toml") != want {
			t.Errorf("%s\nexit %d\n%s\nthe config is\n%s", text, o.code, o.stderr, readText(t, root, ".localport.toml"))
		}
	}
}
