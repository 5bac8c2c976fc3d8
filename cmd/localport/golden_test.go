package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/filelimit"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/shellpty"
)

var update = flag.Bool("update", false, "rewrite the files of testdata/golden")

// checkGolden compares text with a file of testdata/golden, or writes the file with -update.
func checkGolden(t testing.TB, name, text string) {
	t.Helper()
	path := filepath.Join("testdata/golden", name)
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text == string(want) {
		return
	}
	got, wanted := strings.Split(text, "\n"), strings.Split(string(want), "\n")
	for i := range got {
		if i >= len(wanted) || got[i] != wanted[i] {
			t.Fatalf("%s:%d: got\n%s\nwant\n%s\nif the change is intended: go test ./cmd/localport -run Golden -update", path, i+1,
				got[i], strings.Join(wanted[i:min(i+1, len(wanted))], ""))
		}
	}
	t.Fatalf("%s has %d lines more", path, len(wanted)-len(got))
}

func TestGolden_Help(t *testing.T) {
	w := newTestEnv(t)
	w.env = append(w.env, "COLUMNS=120")
	parser, err := kong.New(&grammar{}, kong.Vars{"version": "0"})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	page := func(args ...string) {
		fmt.Fprintf(&b, "$ localport %s\n%s\n", strings.Join(args, " "), w.mustRun("/", args...))
	}
	page("--help")
	for _, command := range parser.Model.Leaves(true) {
		if parent := command.Parent; parent.Type == kong.CommandNode && parent.Children[0] == command {
			page(append(strings.Fields(nodePath(parent)), "--help")...)
		}
		page(append(strings.Fields(nodePath(command)), "--help")...)
	}
	checkGolden(t, "help.txt", b.String())
}

// shownError is an error that a command or a prompt prints.
type shownError struct {
	name string // of the type or variable, optionally followed by a remark in parentheses
	err  error
}

// shownErrors returns every error type and variable of the packages that return errors to commands, at least once.
func shownErrors() []shownError {
	const config, log = "/home/you/shop/.localport.toml", "/home/you/.local/state/localport/projects/1/log/supervisor.log"
	diagnostic := project.Diagnostic{Path: config, Line: 3, Col: 14, Message: "services.db.local_port: invalid port 80800: must be 1-65535", Source: "local_port = 80800"}
	second := project.Diagnostic{Path: config, Line: 7, Col: 1, Message: `services.db.remot_port: unknown key; did you mean "remote_port"?`, Source: "remot_port = 5432"}
	start := func(outcome client.Outcome, text string) error {
		return &client.StartError{Readiness: client.Readiness{Outcome: outcome, Error: text}, Log: log, IsReported: true}
	}
	loss := &api.LoginLossError{Services: []string{"db", "cache"}, Reason: "the key needs a passphrase"}
	return []shownError{
		{"output.Usage", output.Usage(errors.New("unknown flag --wach, did you mean \"--watch\"?"))},
		{"output.WithHint (unknown service)", unknownNameError("service", "dbb", []string{"db", "docs"})},
		{"output.WithHint (nothing similar)", unknownNameError("service", "x", []string{"postgres", "docs"})},
		{"output.WithHint (unknown tag)", unknownNameError("tag", "x", []string{"database", "essential"})},
		{"project.NotFoundError", &project.NotFoundError{Tried: []string{"/home/you/src", "/home/you", "/home", "/"}}},
		{"project.ErrDirectoryDeleted", project.ErrDirectoryDeleted},
		{"project.InsecureConfigError", &project.InsecureConfigError{Path: "/home/you/.config/localport/config.toml"}},
		{"project.InvalidError", &project.InvalidError{Diagnostics: []project.Diagnostic{diagnostic, second}}},
		{"client.NotAllowedError", &client.NotAllowedError{Config: config}},
		{"client.NotAllowedError (-c FILE)", &client.NotAllowedError{Config: "/home/you/shop/staging.toml"}},
		{"client.ErrDown", client.ErrDown},
		{"client.NoAnswerError (supervisor)", &client.NoAnswerError{Role: client.SupervisorRole, PID: 4711, Waited: 2 * time.Second}},
		{"client.NoAnswerError (keeper)", &client.NoAnswerError{Role: client.KeeperRole, PID: 4712, Waited: 10 * time.Second}},
		{"client.NoAnswerError (stopped keeper)", &client.NoAnswerError{Role: client.KeeperRole, PID: 4712, Stopped: true}},
		{"client.NoAnswerError (unknown process)", &client.NoAnswerError{Role: client.SupervisorRole, Waited: 2 * time.Second}},
		{"client.SandboxError (not visible)", &client.SandboxError{Socket: "/run/user/1000/localport/1.sock"}},
		{"client.SandboxError (refused)", &client.SandboxError{Socket: "/run/user/1000/localport/1.sock", Err: os.NewSyscallError("socket", syscall.EPERM)}},
		{"client.NoAnswerError (another namespace)", &client.NoAnswerError{
			Role: client.SupervisorRole, Waited: 10 * time.Second, ForeignSocket: "/run/user/1000/localport/1.sock",
		}},
		{"client.ErrNoAnswer", &client.UnreachableError{Socket: "/run/user/1000/localport/1.sock", Err: client.ErrNoAnswer}},
		{"client.UnreachableError", &client.UnreachableError{Socket: "/run/user/1000/localport/1.sock", Err: syscall.ECONNREFUSED}},
		{"client.UnreachableError (ending)", &client.UnreachableError{Socket: "/run/user/1000/localport/1.sock", Err: api.ErrEnding}},
		{"client.RefusedError", fmt.Errorf("reload: %w", &client.RefusedError{Reason: diagnostic.String(), Request: "k4xw2a7q", Status: 500})},
		{"client.StartError (invalid)", start(client.OutcomeInvalid, diagnostic.String())},
		{"client.StartError (not allowed)", start(client.OutcomeNotAllowed, (&client.NotAllowedError{Config: config}).Error())},
		{"client.StartError (failed)", start(client.OutcomeFailed, "the supervisor exited while starting: panic: runtime error\ngoroutine 1 [running]:")},
		{"client.StartError (too slow)", start(client.OutcomeFailed, "the supervisor did not become ready in time")},
		{"api.ErrTooManyWatchers", api.ErrTooManyWatchers},
		{"api.ErrEnding", api.ErrEnding},
		{"api.ForeignError (from a container)", &api.ForeignError{Kinds: []string{"PID"}}},
		{"api.ForeignError (a visible process)", &api.ForeignError{Kinds: []string{"user", "mount"}, PID: 4711, Root: "/home/you/my shop"}},
		{"api.ForeignError (from outside)", &api.ForeignError{Kinds: []string{"user", "mount", "PID"}, PID: 4711, IsBelow: true, Root: "/home/you/shop"}},
		{"client.OtherNetworkError (from a container)", &client.OtherNetworkError{}},
		{"client.OtherNetworkError (movable)", &client.OtherNetworkError{IsMovable: true}},
		{"api.LoginLossError", fmt.Errorf("restart: %w", &client.RefusedError{Reason: loss.Error(), Request: "k4xw2a7q", Status: 409, LoginLoss: loss})},
		{"api.NotSharedError", &api.NotSharedError{Project: "/home/you/shop", Service: "db", Target: "tcp db.staging:5432"}},
		{"filelimit.TooLowError", &filelimit.TooLowError{Limit: 64, Needed: 217}},
		{"process.NotFoundError", &process.NotFoundError{Name: "kubectl", Path: "/usr/local/bin:/usr/bin:/bin"}},
		{"process.NotFoundError (a path)", &process.NotFoundError{Name: "/home/you/shop/bin/tunnel"}},
		{"lockstate.NotRegularError", &lockstate.NotRegularError{Path: "/home/you/.local/state/localport/projects/1/state.json", Kind: "named pipe"}},
		{"lockstate.WriteError", &lockstate.WriteError{Path: "/home/you/.local/state/localport/projects/1/state.json", Err: syscall.ENOSPC}},
		{"lockstate.WriteError (not the disk)", &lockstate.WriteError{Path: "/home/you/.local/state/localport/projects/1/state.json", Err: syscall.EROFS}},
		{"lockstate.HeldError", &lockstate.HeldError{Path: "/home/you/.local/state/localport/projects/1", Reason: "a supervisor is running"}},
		{"lockstate.LockedError", &lockstate.LockedError{Path: "/home/you/.local/state/localport/projects/1/lock", PID: 4713, Program: "vim"}},
		{"lockstate.LockedError (unknown process)", &lockstate.LockedError{Path: "/home/you/.local/state/localport/projects/1/lock"}},
		{"errors.Join", errors.Join(
			notReadyError(api.ServiceStatus{Name: "db", State: forwarder.NeedsAttention, LastError: "the key needs a passphrase", Log: "/home/you/.local/state/localport/projects/1/log/db.log"}, false, 0),
			notReadyError(api.ServiceStatus{Name: "api", State: forwarder.Starting, Log: "/home/you/.local/state/localport/projects/1/log/api.log"}, true, startTimeout),
		)},
		{"errors.errorString (shared)", notReadyError(api.ServiceStatus{
			Name: "db", State: forwarder.Shared, LastError: "no route to host", Log: "/home/you/.local/state/localport/projects/1/log/db.log",
			Shared: &api.SharedService{Project: "/home/you/shop-2", Service: "db", State: forwarder.Unhealthy},
		}, true, startTimeout)},
	}
}

func TestGolden_Errors(t *testing.T) {
	var b strings.Builder
	seen := make(map[string]bool)
	for _, e := range shownErrors() {
		name, _, _ := strings.Cut(e.name, " ")
		seen[name] = true
		var command, prompt bytes.Buffer
		code := output.PrintError(&command, e.err)
		output.PrintError(&prompt, output.ReportOnOneLine(&prompt, e.err))
		fmt.Fprintf(&b, "== %s: exit code %d\n%sat a prompt:\n%s\n", e.name, code, command.String(), prompt.String())
	}
	for _, dir := range []string{"../../forwarder/api", "../../forwarder/client", "../../forwarder/filelimit", "../../forwarder/process", "../../lockstate", "../../project"} {
		for _, name := range declaredErrors(t, dir) {
			if !seen[name] {
				t.Errorf("shownErrors has no %s", name)
			}
		}
	}
	checkGolden(t, "errors.txt", b.String())
}

// The errors of configs are golden files of package project; here they stand together, beside all others, for whoever reads them.
func TestGolden_ConfigErrors(t *testing.T) {
	paths, err := filepath.Glob("../../project/testdata/invalid/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("found %d configs: %v", len(paths), err)
	}
	var b strings.Builder
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, want, ok := strings.Cut(string(data), "\n-- want --\n")
		if !ok {
			t.Fatalf("%s has no section want", path)
		}
		description, _, _ := strings.Cut("\n"+string(data), "\n-- ")
		fmt.Fprintf(&b, "== %s%s\n%s\n", strings.TrimSuffix(filepath.Base(path), ".txtar"), description, want)
	}
	checkGolden(t, "config-errors.txt", b.String())
}

// declaredErrors returns the exported error types and variables of a package.
func declaredErrors(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	add := func(pkg, name string) {
		if ast.IsExported(name) {
			names = append(names, pkg+"."+name)
		}
	}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Name.Name == "Error" && n.Recv != nil {
					receiver := n.Recv.List[0].Type
					if star, ok := receiver.(*ast.StarExpr); ok {
						receiver = star.X
					}
					if name, ok := receiver.(*ast.Ident); ok {
						add(file.Name.Name, name.Name)
					}
				}
				return false
			case *ast.ValueSpec:
				for _, name := range n.Names {
					if strings.HasPrefix(name.Name, "Err") {
						add(file.Name.Name, name.Name)
					}
				}
			}
			return true
		})
	}
	return names
}

// TestGolden_Commands is a user's session: what each command and prompt prints.
func TestGolden_Commands(t *testing.T) {
	w := newTestEnv(t)
	dir := shellpty.NewDir(t)
	root := filepath.Join(dir, "shop")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	upstream, port, second := serve(t, "127.0.0.1:0"), ports.FreePort(t), ports.FreePort(t)
	healthyFile := filepath.Join(w.home, "healthy")
	if err := os.WriteFile(healthyFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	config := tcpConfig("api", port, upstream) + "tags = [\"web\"]\n" +
		fmt.Sprintf("health_check = { type = \"command\", command = [\"test\", \"-e\", %q], interval = \"50ms\", failure_threshold = 2 }\n", healthyFile) +
		tcpConfig("docs", second, upstream) + "enabled = false\n[env]\nAPI_URL = \"http://${api.addr}\"\n"
	var b strings.Builder
	localport := func(args ...string) {
		t.Helper()
		o := w.localport(root, args...)
		fmt.Fprintf(&b, "$ localport %s\n%s%s", strings.Join(args, " "), o.stdout, o.stderr)
		if o.code != 0 {
			fmt.Fprintf(&b, "(exit code %d)\n", o.code)
		}
		b.WriteByte('\n')
	}
	prompt := func(what string, args ...string) {
		t.Helper()
		fmt.Fprintf(&b, "(a prompt %s)\n", what)
		eventually(t, "a prompt prints something "+what, func() bool {
			o := w.localport(root, append([]string{"export", "bash", "--pid", fmt.Sprint(os.Getpid())}, args...)...)
			b.WriteString(o.stderr)
			return o.stderr != ""
		})
		b.WriteByte('\n')
	}
	promptArgs := func() []string { return []string{"--root", root, "--line", fmt.Sprint(w.promptLineNumber(), " 0 0")} }

	localport("status")
	w.writeFile(root, ".localport.toml", config)
	prompt("in a new project")
	localport("start")
	localport("status")
	localport("exec", "--", "true")
	localport("daemon", "status")
	localport("login")
	localport("allow")
	localport("config", "validate")
	localport("stop")
	localport("stop", "api")
	localport("daemon", "reload")
	localport("daemon", "start")
	localport("daemon", "start")
	eventually(t, "it is healthy", func() bool { return w.service(root, "api").State == forwarder.Healthy })
	prompt("after cd")
	eventually(t, "status shows both leases", func() bool { return len(w.status(root).Leases) == 2 })
	localport("status")
	localport("status", "-o", "text")
	localport("daemon", "status")
	localport("login")
	localport("port", "api")
	localport("port", "apj")
	localport("start", "--tag", "x")
	localport("exec")
	localport("exec", "--", "no-such-program")
	localport("recipes", "aws")
	localport("hook", "ksh")
	localport("logs", "--since", "yesterday")
	localport("logs", "-f", "--until", "15:04")
	localport("logs", "--grep", "[")
	localport("logs", "nothing")
	localport("env")
	seen := promptArgs()
	if err := os.Remove(healthyFile); err != nil {
		t.Fatal(err)
	}
	prompt("after a service failed", seen...)
	localport("exec", "--wait", "900ms", "--", "true")
	seen = promptArgs() // before the recovery, which would count as seen otherwise
	if err := os.WriteFile(healthyFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	prompt("after it recovered", seen...)
	w.writeFile(root, ".localport.toml", config+"nonsense = 1\n")
	eventually(t, "status reports the change", func() bool { return w.status(root).Pending != "" })
	prompt("after a change", promptArgs()...)
	localport("status")
	localport("exec", "--", "true")
	localport("allow")
	localport("config", "validate")
	w.writeFile(root, ".localport.toml", config)
	localport("allow")
	localport("daemon", "restart")
	eventually(t, "it is healthy", func() bool { return w.service(root, "api").State == forwarder.Healthy })
	localport("restart", "api")
	localport("events", "-n", "2", "api")
	localport("stop", "api")
	localport("deny")
	localport("status")
	checkGolden(t, "commands.txt", normalize(b.String(), strings.NewReplacer(
		listAncestors(dir), "/tmp, /", root, "/home/you/shop", dir, "/home/you", w.home, "/home/you", fmt.Sprint(second), "8081", fmt.Sprint(":", port), ":8080", fmt.Sprint(port), "8080", fmt.Sprint(upstream.port), "18099",
	)))
}

// listAncestors lists the directories above dir as an error lists those that it has searched; how many there are depends on TMPDIR.
func listAncestors(dir string) string {
	var dirs []string
	for dir != "/" {
		dir = filepath.Dir(dir)
		dirs = append(dirs, dir)
	}
	return strings.Join(dirs, ", ")
}

// normalize replaces what differs from run to run by placeholders.
func normalize(text string, names *strings.Replacer) string {
	text = names.Replace(text)
	for _, r := range []struct{ pattern, with string }{
		{`projects/[0-9a-f]{16}`, "projects/1"},
		{`/\S*/localport(-\d+)?/[0-9a-f]{16}\.sock`, "/home/you/runtime/localport/1.sock"}, // elsewhere if TMPDIR's path is long
		{`pid( +)\d+`, "pid${1}4711"},
		{`(?m)^run( +)\w+$`, "run${1}k4xw2a7q"},
		{`--grep \w{8}\b`, "--grep k4xw2a7q"},
		{`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`, "2026-01-31 15:04:05"},
		{`\d+(\.\d+)? MB`, "18.0 MB"},
		{`(for|uptime +) ?\d+s\b`, "$1 4s"},
		{`  +`, "  "}, // columns are as wide as what differs
		{`\b\d+(\.\d+)?(s|ms|µs), \d+s ago  \d+s`, "200µs, 1s ago  4s"},
	} {
		text = regexp.MustCompile(r.pattern).ReplaceAllString(text, r.with)
	}
	return text
}

// Without arguments, and as "help COMMAND", localport shows its help; it is no mistake.
func TestHelp_IsShownWithoutArguments(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	want := w.mustRun("/", "--help")
	for _, args := range [][]string{{}, {"help"}} {
		if o := w.localport("/", args...); o.code != 0 || o.stdout != want || o.stderr != "" {
			t.Errorf("localport %v: exit %d, %q\n%s", args, o.code, o.stderr, o.stdout)
		}
	}
	if o := w.localport("/", "help", "daemon", "stop"); o.code != 0 || o.stdout != w.mustRun("/", "daemon", "stop", "--help") {
		t.Errorf("help daemon stop: exit %d, %q", o.code, o.stdout)
	}
	if o := w.localport("/", "help", "dance"); o.code != 2 {
		t.Errorf("help dance: exit %d, %q", o.code, o.stderr)
	}
	for alias, name := range map[string]string{"up": "start", "down": "stop", "ps": "status"} {
		if w.mustRun("/", alias, "--help") != w.mustRun("/", name, "--help") {
			t.Errorf("%s is not %s", alias, name)
		}
	}
}
