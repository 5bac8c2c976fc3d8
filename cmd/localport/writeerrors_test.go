package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/ports"
)

// A script must notice that it did not get what it asked for.
func TestCommands_FailIfTheirOutputCannotBeWritten(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	for _, command := range []string{
		"status", "status --json", "status -o text", "status web", "status --all", "ls", "ls --json", "status -w", "status -w --json", "start", "restart", "env", "env --format json",
		"logs supervisor", "logs supervisor --json", "logs --list", "logs --path supervisor", "events", "events --json", "hook bash", "hook nu", "completion zsh", "config validate", "recipes",
		"recipes cloud-sql", "daemon status", "daemon status --json", "daemon start", "daemon restart", "daemon reload", "metrics", "port web", "version", "--version", "--help", "status --help", "help ssh", "demo",
	} {
		cmd := w.command(root, strings.Fields(command)...)
		var stderr strings.Builder
		cmd.Stdout, cmd.Stderr = full, &stderr
		_ = cmd.Run()
		message := stderr.String()
		if i := strings.Index(message, "localport: write"); i >= 0 { // what was said before is no error
			message = message[i:]
		}
		if code := cmd.ProcessState.ExitCode(); code != 1 || message != "localport: write to the standard output: no space left on device\n" {
			t.Errorf("%s >/dev/full: exit %d, %q", command, code, stderr.String())
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
		cmd := w.command(root, strings.Fields(command)...)
		var stderr strings.Builder
		cmd.Stdout, cmd.Stderr = writer, &stderr
		_ = cmd.Run()
		writer.Close()
		if code := cmd.ProcessState.ExitCode(); code != 1 || stderr.String() != "localport: write to the standard output: broken pipe\n" {
			t.Errorf("%s to a closed pipe: exit %d, %q", command, code, stderr.String())
		}
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
