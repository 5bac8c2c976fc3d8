package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/testdata/executable"
	"github.com/localport-sh/localport/testdata/ports"
)

// writingCommands are command lines that write to the standard output, in a project that runs: at least one of each command that does. PORT stands for
// a free port.
var writingCommands = []string{
	"export bash", "export fish --pid 1",
	"status", "status --json", "status -o text", "status web", "status --all", "ls", "ls --json", "status -w", "status -w --json", "start", "restart", "env", "env --format json", "lease",
	"logs supervisor", "logs supervisor --json", "logs --list", "logs --path supervisor", "events", "events --json", "hook bash", "hook nu", "completion zsh",
	"config validate", "config show", "config show --json", "config export", "export --format json", "config schema", "schema", "config backup",
	"backup", "config restore --list", "restore --list", "init --print", "init --example", "add --dry-run tcp 127.0.0.1:9", "forward tcp 127.0.0.1:9 PORT", "recipes", "recipes cloud-sql", "daemon status",
	"daemon status --json", "daemon start", "daemon restart", "daemon reload", "metrics", "port web", "why web", "why web --json", "doctor", "doctor --json", "doctor --report", "uninstall", "version",
	"--version", "--help", "status --help", "help", "help ssh", "man", "demo",
}

// silentCommands are the commands that write nothing to the standard output, in an order in which each of them succeeds in a project that is not
// allowed.
var silentCommands = []string{
	"allow", "start --no-wait", "exec -- true", "edit", "remove docs", "stop web", "daemon stop", "config migrate", "migrate", "config restore", "restore", "stop", "deny",
}

// otherCommands are in neither list.
var otherCommands = map[string]string{
	"top":       "it needs a terminal",
	"supervise": "localport runs it, with its output in a log",
	"standby":   "localport runs it, without an output",
	"login":     "TestLogin_FailsIfItsOutputCannotBeWritten",
}

// Each command has a line in one of the lists.
func TestCommands_OutputOfEachIsTried(t *testing.T) {
	t.Parallel()
	for _, command := range newParser(context.Background(), &app{}, &grammar{}).Model.Leaves(false) {
		name := nodePath(command)
		isOfCommand := func(line string) bool { return line == name || strings.HasPrefix(line, name+" ") }
		if otherCommands[name] == "" && !slices.ContainsFunc(writingCommands, isOfCommand) && !slices.ContainsFunc(silentCommands, isOfCommand) {
			t.Errorf("%s is in none of writingCommands, silentCommands and otherCommands", name)
		}
	}
}

// openFull returns a file to which nothing can be written.
func openFull(t *testing.T) *os.File {
	t.Helper()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { full.Close() })
	return full
}

// runOnto runs a command line with a file as its standard output.
func (w *testEnv) runOnto(out *os.File, root, line string) (code int, stderr string) {
	w.t.Helper()
	cmd := w.command(root, strings.Fields(strings.ReplaceAll(line, "PORT", fmt.Sprint(ports.FreePort(w.t))))...)
	var messages strings.Builder
	cmd.Stdout, cmd.Stderr = out, &messages
	_ = cmd.Run()
	return cmd.ProcessState.ExitCode(), messages.String()
}

// requireWriteError checks that a command line fails because it cannot write to a file, and says so last.
func (w *testEnv) requireWriteError(out *os.File, root, line, reason string) {
	w.t.Helper()
	code, stderr := w.runOnto(out, root, line)
	message := stderr
	if i := strings.Index(message, "localport: write"); i >= 0 { // what was said before is no error
		message = message[i:]
	}
	if code != 1 || message != "localport: write to the standard output: "+reason+"\n" {
		w.t.Errorf("%s: exit %d, %q", line, code, stderr)
	}
}

// A script must notice that it did not get what it asked for.
func TestCommands_FailIfTheirOutputCannotBeWritten(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	w.env = append(w.env, "LOCALPORT_LEASE_PID="+fmt.Sprint(os.Getpid()))
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	full := openFull(t)
	for _, command := range writingCommands {
		w.requireWriteError(full, root, command, "no space left on device")
	}
	// A message would be shown in the command line that is being edited.
	for _, command := range []string{"__complete services", "__complete logs"} {
		if code, stderr := w.runOnto(full, root, command); code != 1 || stderr != "" {
			t.Errorf("%s >/dev/full: exit %d, %q", command, code, stderr)
		}
	}
	for _, command := range []string{
		"status", "status --json", "logs supervisor", "env", "port web", "version", "--version", "hook bash", "hook nu", "completion zsh", "--help", "status --help", "help ssh",
	} {
		reader, writer, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		reader.Close()
		w.requireWriteError(writer, root, command, "broken pipe")
		writer.Close()
	}
}

// A command that has nothing to write does not care where it would write to.
func TestCommands_WithoutOutputSucceedWhereNoneCanBeWritten(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	w.env = append(w.env, "EDITOR=true", "VISUAL=")
	server := serve(t, "127.0.0.1:0")
	root := w.project("version = \"1.0\"\n" + tcpConfig("web", ports.FreePort(t), server) + tcpConfig("docs", ports.FreePort(t), server))
	full := openFull(t)
	for _, command := range silentCommands {
		if code, stderr := w.runOnto(full, root, command); code != 0 {
			t.Errorf("%s >/dev/full: exit %d, %q", command, code, stderr)
		}
	}
}

func TestLogin_FailsIfItsOutputCannotBeWritten(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.project(fmt.Sprintf("[services.web]\ntechnology = \"command\"\ncommand = [\"./tunnel.sh\", \"{port}\"]\nneeds_login = \"log in first\"\nlogin = [\"touch\", \"session\"]\nlocal_port = %d\n", ports.FreePort(t)))
	script := "#!/bin/sh\n[ -e session ] || { echo 'log in first'; exit 1; }\nexec /usr/bin/env -u" + mainVariable + " " + upstreamVariable + "=1 " + w.exe + " \"$1\"\n"
	if err := executable.WriteFile(filepath.Join(root, "tunnel.sh"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	w.mustRun(root, "allow")
	w.mustRun(root, "start", "--no-wait")
	eventually(t, "it needs a login", func() bool { return w.service(root, "web").State == forwarder.NeedsAttention })
	w.requireWriteError(openFull(t), root, "login", "no space left on device")
	if state := w.service(root, "web").State; state != forwarder.Healthy {
		t.Errorf("after the login, the service is %s", state)
	}
}

// The reader of a command that goes on for ever has seen enough when it closes the pipe.
func TestStatusWatch_EndsWithItsReader(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	for _, args := range [][]string{{"status", "-w"}, {"status", "-i", "0.2", "--json"}} {
		f := w.startFollowing(t, root, args...)
		f.nextLine()
		f.out.Close()
		f.waitQuietExit()
	}
}

// A closed descriptor is /dev/null to every command: Go's runtime opens it on that before main (runtime.checkfds), so that no file of ours gets its
// number. What is written to it is not missed.
func TestCommands_TakeAClosedDescriptorForDevNull(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	run := func(redirection string, args ...string) (code int, text string) {
		cmd := w.command(root, args...)
		cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", `exec "$0" "$@" ` + redirection, w.exe}, args...)
		out, _ := cmd.CombinedOutput()
		return cmd.ProcessState.ExitCode(), string(out)
	}
	for _, command := range []string{"start", "status", "status --json", "env", "logs supervisor", "exec -- true", "config validate", "port web", "why web", "version", "help ssh", "nonsense", "status nosuch", "stop", "start"} {
		for closed, null := range map[string]string{">&-": ">/dev/null", "<&-": "</dev/null", "2>&-": "2>/dev/null"} {
			code, text := run(closed, strings.Fields(command)...)
			wantCode, want := run(null, strings.Fields(command)...)
			if code != wantCode || (text == "") != (want == "") {
				t.Errorf("%s %s: exit %d, %q; with /dev/null %d, %q", command, closed, code, text, wantCode, want)
			}
		}
	}
	// The supervisor that the last start has left has no socket or lock on a standard descriptor.
	pid := w.state(root).Supervisor.PID
	for fd := range 3 {
		if target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd)); err == nil && target != os.DevNull && !strings.HasSuffix(target, ".log") {
			t.Errorf("descriptor %d of the supervisor is %s", fd, target)
		}
	}
}
