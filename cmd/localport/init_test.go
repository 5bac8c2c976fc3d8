package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/localport-sh/localport/cmd/localport/internal/convert/converttest"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/examples"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/postgres"
)

// newInitEnv returns an environment of a user, and an empty directory.
func newInitEnv(t *testing.T) (*testEnv, string) {
	t.Helper()
	w := newTestEnv(t)
	w.env = append(w.env, "SHELL=/bin/bash", "KUBECONFIG="+filepath.Join(w.home, "kubeconfig"))
	dir := filepath.Join(w.home, "shop")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return w, dir
}

func readNewConfig(t *testing.T, dir string) string {
	return readProjectFile(t, dir, project.ConfigName)
}

// checkOnlyFiles fails the test if a directory has other files than these.
func checkOnlyFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, entry := range entries {
		got = append(got, entry.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("the directory has %q, want %q", got, want)
	}
}

func TestInit_WithoutATerminalWritesATemplateOnce(t *testing.T) {
	t.Parallel()
	w, dir := newInitEnv(t)
	if got := w.mustRun(dir, "init", "--dry-run"); got != configTemplate {
		t.Errorf("--dry-run printed %q", got)
	}
	checkOnlyFiles(t, dir)
	w.mustRun("/", "-C", dir, "init")
	checkOnlyFiles(t, dir, project.ConfigName)
	if got := readNewConfig(t, dir); got != configTemplate {
		t.Errorf("wrote %q", got)
	}
	if out := w.mustRun(dir, "config", "validate"); !strings.Contains(out, "valid, 0 services") {
		t.Errorf("validate: %s", out)
	}
	w.writeFile(dir, project.ConfigName, "# mine\n")
	o := w.localport(dir, "init")
	if o.code != 1 || !strings.Contains(o.stderr, "exists already") || readNewConfig(t, dir) != "# mine\n" {
		t.Errorf("a second init: exit %d, %s", o.code, o.stderr)
	}
	if o := w.localport(dir, "start"); o.code != 4 {
		t.Errorf("start after init: exit %d, want 4: nothing was allowed", o.code)
	}
}

// TestInit_TemplateIsValidWhenUncommented removes the "# " of every line that is TOML.
func TestInit_TemplateIsValidWhenUncommented(t *testing.T) {
	t.Parallel()
	toml := regexp.MustCompile(`(?m)^# (\[|[a-zA-Z_]+ = )`)
	parsed := converttest.Parse(t, toml.ReplaceAllString(configTemplate, "$1"), map[string]string{"POSTGRES_PASSWORD": "x"})
	if len(parsed.Services) != 4 || len(parsed.Env) != 1 {
		t.Errorf("got %d services and %d variables, want 4 and 1", len(parsed.Services), len(parsed.Env))
	}
}

func TestInit_WritesTheExamples(t *testing.T) {
	t.Parallel()
	w, dir := newInitEnv(t)
	list := w.mustRun(dir, "init", "--example")
	for _, name := range examples.Names() {
		text, _ := examples.Config(name)
		if got := w.mustRun(dir, "init", "--print", "--example", name); got != text || !strings.Contains(list, name) {
			t.Errorf("%s: printed %q", name, got)
		}
	}
	w.mustRun(dir, "init", "--example=bastion")
	w.mustRun(dir, "config", "validate")
}

// TestGolden_Init has what init says without a terminal.
func TestGolden_Init(t *testing.T) {
	w, dir := newInitEnv(t)
	var b strings.Builder
	hook := regexp.MustCompile(`(?m)^localport: .* does not load the hook yet; .*\n    .*localport hook .*\n.*localport exec -- COMMAND\n`) // of the shell that runs the tests
	show := func(args ...string) {
		o := w.localport(dir, args...)
		text := strings.NewReplacer(w.home, "/home/you").Replace(hook.ReplaceAllString(o.stdout+o.stderr, "(how to load the hook)\n"))
		fmt.Fprintf(&b, "$ localport %s\n%s", strings.Join(args, " "), text)
		if o.code != 0 {
			fmt.Fprintf(&b, "(exit code %d)\n", o.code)
		}
		b.WriteString("\n")
	}
	show("init", "--example")
	show("init", "--example", "kubernetes")
	show("init", "--from-kubectl")
	show("init", "-n", "shop")
	show("init", "--from-kubectl", "--all", "-n", "shop")
	show("init", "bastion")
	show("init", "--from", "missing.yml")
	show("init", "--from", ".")
	w.writeFile(dir, "other.yml", "services: 1\n")
	show("init", "--from", "other.yml")
	w.writeFile(dir, "broken.yml", "services: [\n")
	show("init", "--from", "broken.yml")
	w.writeFile(dir, "shop.toml", "")
	show("init", "--from", "shop.toml")
	w.writeFile(dir, "ssh_config", "Host bastion\n\tUser deploy\n")
	show("init", "--from-ssh-config", "-F", "ssh_config")
	show("init", "--from-ssh-config", "-F", "ssh_config", "bastion")
	w.writeFile(dir, "localport.yaml", "version: '1.0'\nservices:\n- name: db\n  technology: kubectl\n  local_port: 5432\n  remote_port: 5432\n"+
		"  connection: {resource_name: db}\n  health_check: {type: postgres, config: {password: hunter2}}\n")
	show("init", "--from", "localport.yaml")
	show("init", "--from", "localport.yaml")
	if err := os.Remove(filepath.Join(dir, project.ConfigName)); err != nil {
		t.Fatal(err)
	}
	w.writeFile(dir, "compose.yml", "services:\n  db:\n    image: postgres\n    ports: ['${PORT}:5432', '5432:5432']\n    environment: {POSTGRES_USER: app, POSTGRES_PASSWORD: hunter2}\n")
	show("init", "--from", "compose.yml")
	show("config", "validate")
	inner := filepath.Join(dir, "inner")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	show("-C", "inner", "init", "--example", "socks")
	checkGolden(t, "init.txt", b.String())
}

// conversation is localport on a terminal of 80 columns and 24 rows.
type conversation struct {
	t        *testing.T
	cmd      *exec.Cmd
	terminal *os.File
	mu       sync.Mutex // guards screen
	screen   bytes.Buffer
	seen     int // what expect has found ends here
	doneCh   chan struct{}
}

func (w *testEnv) converse(dir string, args ...string) *conversation {
	w.t.Helper()
	c := &conversation{t: w.t.(*testing.T), cmd: w.command(dir, args...), doneCh: make(chan struct{})}
	var err error
	if c.terminal, err = pty.StartWithSize(c.cmd, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		defer close(c.doneCh)
		buffer := make([]byte, 4096)
		for {
			n, err := c.terminal.Read(buffer)
			c.mu.Lock()
			c.screen.Write(buffer[:n])
			c.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	w.t.Cleanup(func() { _ = c.cmd.Process.Kill(); _ = c.cmd.Wait(); c.terminal.Close(); <-c.doneCh })
	return c
}

// expect waits until the screen shows a text after what was found last, and then types keys.
func (c *conversation) expect(text, keys string) {
	c.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		c.mu.Lock()
		screen := c.screen.String()
		c.mu.Unlock()
		if at := strings.Index(screen[c.seen:], text); at >= 0 {
			c.seen += at + len(text)
			break
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("the screen does not show %q but:\n%s", text, screen[c.seen:])
		}
		time.Sleep(5 * time.Millisecond)
	}
	if _, err := c.terminal.WriteString(keys); err != nil {
		c.t.Fatal(err)
	}
}

// end waits for the end of the command and returns its exit code, -1 after a signal, and all that the screen has shown.
func (c *conversation) end() (int, string) {
	c.t.Helper()
	_ = c.cmd.Wait()
	<-c.doneCh
	return c.cmd.ProcessState.ExitCode(), strings.ReplaceAll(c.screen.String(), "\r\n", "\n")
}

func TestInit_ConversationWritesAndAllowsWhatWasShown(t *testing.T) {
	t.Parallel()
	w, dir := newInitEnv(t)
	port := ports.FreePort(t)
	c := w.converse(dir, "init")
	c.expect("Number [1]:", "x\n")
	c.expect("from 1 to 5", "2\n")
	c.expect("Host:", "http://db\n")
	c.expect("without a scheme", "db.internal:5432\n")
	c.expect("Port there [5432]:", "http\n")
	c.expect("from 1 to 65535", "\n")
	c.expect("Name of the service [db]:", "\n")
	c.expect(`"auto"`, fmt.Sprintf("%d\n", port))
	c.expect("[Y/n]:", "maybe\n")
	c.expect("answer y or n", "\n")
	c.expect("Allow it now", "\n")
	code, screen := c.end()
	if code != 0 || !strings.Contains(screen, "allowed "+filepath.Join(dir, project.ConfigName)) {
		t.Errorf("exit %d\n%s", code, screen)
	}
	svc := converttest.Parse(t, readNewConfig(t, dir), nil).Services[0]
	if svc.Name != "db" || svc.LocalPort != port || svc.RemotePort != "5432" || !strings.Contains(readNewConfig(t, dir), `# health_check = { type = "postgres"`) {
		t.Errorf("wrote %s", readNewConfig(t, dir))
	}
	if out := w.mustRun(dir, "port", "db"); strings.TrimSpace(out) != fmt.Sprint(port) {
		t.Errorf("port: %q", out)
	}
	for line := range strings.Lines(screen) {
		if strings.HasPrefix(line, " ") && len([]rune(line)) > 81 {
			t.Errorf("a line of the questions is longer than 80 columns: %q", line)
		}
	}
}

func TestInit_ConversationAllowsNothingThatWasNotShown(t *testing.T) {
	t.Parallel()
	w, dir := newInitEnv(t)
	w.writeFile(dir, ".env", "TOKEN=x\n")
	c := w.converse(dir, "init")
	c.expect("Number [1]:", "5\n")
	c.expect("Write this to", "y\n")
	if code, screen := c.end(); code != 0 || strings.Contains(screen, "Allow it now") || !strings.Contains(screen, `run "localport allow"`) {
		t.Errorf("exit %d\n%s", code, screen)
	}
	if o := w.localport(dir, "start"); o.code != 4 {
		t.Errorf("start: exit %d, want 4", o.code)
	}
}

func TestInit_ConversationLeavesNothingWhenItIsLeft(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		keys []string // after the first question
		code int
	}{
		"Ctrl-C at once":         {[]string{"\x03"}, -1},
		"Ctrl-D at once":         {[]string{"\x04"}, 1},
		"Ctrl-C before the file": {[]string{"5\n", "\x03"}, -1},
		"Ctrl-D before the file": {[]string{"5\n", "\x04"}, 1},
		"no":                     {[]string{"5\n", "n\n"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, dir := newInitEnv(t)
			c := w.converse(dir, "init")
			c.expect("Number [1]:", test.keys[0])
			for _, keys := range test.keys[1:] {
				c.expect("[Y/n]:", keys)
			}
			if code, screen := c.end(); code != test.code {
				t.Errorf("exit %d, want %d\n%s", code, test.code, screen)
			}
			checkOnlyFiles(t, dir)
		})
	}
}

func TestInit_OffersTheFilesOfTheDirectory(t *testing.T) {
	t.Parallel()
	w, dir := newInitEnv(t)
	w.writeFile(dir, "compose.yaml", "services: {cache: {image: redis, ports: ['6379:6379']}}\n")
	c := w.converse(dir, "init")
	c.expect("1  what compose.yaml in this directory has", "\n")
	c.expect("Write this to", "\n")
	c.expect("Allow it now", "n\n")
	if code, screen := c.end(); code != 0 {
		t.Errorf("exit %d\n%s", code, screen)
	}
	if !strings.Contains(readNewConfig(t, dir), "[services.cache]") {
		t.Errorf("wrote %s", readNewConfig(t, dir))
	}
}

// TestInit_FromComposeReachesARealServer converts a compose file whose container is a real PostgreSQL, and runs a command with its variables.
func TestInit_FromComposeReachesARealServer(t *testing.T) {
	t.Parallel()
	server := postgres.Start(t, postgres.Options{Password: "hunter2hunter2"})
	w, dir := newInitEnv(t)
	w.writeFile(dir, "compose.yml", fmt.Sprintf("services:\n  db:\n    image: postgres\n    ports: ['127.0.0.1:%d:5432']\n"+
		"    environment: {POSTGRES_USER: app, POSTGRES_PASSWORD: hunter2hunter2}\n", server.Port))
	o := w.localport(dir, "init", "--from", "compose.yml")
	if o.code != 0 || !strings.Contains(o.stderr, "put it into .env as POSTGRES_PASSWORD=") || strings.Contains(readNewConfig(t, dir)+o.stderr, "hunter2") {
		t.Fatalf("exit %d: %s\n%s", o.code, o.stderr, readNewConfig(t, dir))
	}
	w.writeFile(dir, ".env", "POSTGRES_PASSWORD=hunter2hunter2\n") // as the message says
	w.mustRun(dir, "allow")
	url := strings.TrimSpace(w.mustRun(dir, "exec", "--", "sh", "-c", "echo $DATABASE_URL")) // which waits until it is healthy
	if want := fmt.Sprintf("postgres://app:hunter2hunter2@127.0.0.1:%s/app", strings.TrimSpace(w.mustRun(dir, "port", "db"))); url != want {
		t.Errorf("got DATABASE_URL %s, want %s", url, want)
	}
}

// TestInit_AsksNobodyInCI runs with a terminal, but in CI.
func TestInit_AsksNobodyInCI(t *testing.T) {
	t.Parallel()
	w, dir := newInitEnv(t)
	w.env = append(w.env, "CI=true")
	if code, screen := w.converse(dir, "init").end(); code != 0 || readNewConfig(t, dir) != configTemplate {
		t.Errorf("exit %d\n%s", code, cmp.Or(screen, "(nothing was printed)"))
	}
}

func TestParseSelection_SelectsNumbersAndRanges(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"1": "[0]", "3, 1": "[0 2]", "2-4,3": "[1 2 3]", "all": "[0 1 2 3 4]", "ALL": "[0 1 2 3 4]", "1 5": "[0 4]",
		"": "error", "0": "error", "6": "error", "4-2": "error", "a": "error", "1-": "error", "-1": "error", ",": "error", "1-9999999999999999999": "error",
	} {
		indexes, err := parseSelection(text, 5)
		got := fmt.Sprint(indexes)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("parseSelection(%q) = %s, %v, want %s", text, got, err, want)
		}
	}
}
