package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/localport-sh/localport/cmd/localport/internal/leaseholder"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/shellhook"
	"github.com/localport-sh/localport/testdata/executable"
	"github.com/localport-sh/localport/testdata/sshd"
)

// leaseCommand is a command line that runs `env --lease` in the project, in a shell, with this environment.
func (w *testEnv) leaseCommand(root string) string {
	words := []string{"cd", shellhook.Quote(root), "&&", "env"}
	for _, entry := range w.env {
		words = append(words, shellhook.Quote(entry))
	}
	return strings.Join(append(words, shellhook.Quote(w.exe), "env", "--lease"), " ")
}

// checkRefused checks that a command took no lease and said why, with a next step.
func (w *testEnv) checkRefused(what, root string, o commandResult, reason string) {
	w.t.Helper()
	if o.code == 0 || o.stdout != "" || !strings.Contains(o.stderr, reason) || !strings.Contains(o.stderr, "set "+leaseholder.PIDVariable) {
		w.t.Errorf("%s: exit %d, %q, %s; want %q", what, o.code, o.stdout, o.stderr, reason)
	}
	if leases := w.state(root).Leases; len(leases) > 0 {
		w.t.Errorf("%s: leases were taken: %+v", what, leases)
	}
}

// What starts a task and does not end with it gets no lease: the forwards would stay until the user logs out, or longer.
func TestEnvLease_IsNotTakenForWhatOutlivesTheTask(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root, port := w.leasedProject(t)
	pid, _ := startSleep(t)
	for name, reason := range map[string]string{
		"xterm": "it is a terminal", "gnome-terminal-": "it is a terminal", "cron": "it is a service manager", "systemd": "it is a service manager",
		"screen": "it is a terminal multiplexer", "sshd-session": "it is an ssh server",
	} {
		program := filepath.Join(w.home, name)
		if err := executable.WriteFile(program, []byte("#!/bin/sh\nsh -c \"$1\"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		w.checkRefused(name, root, w.run(exec.Command(program, w.leaseCommand(root))), reason)
	}
	cmd := sandboxed(t, exec.Command("sh", "-c", w.leaseCommand(root)+"; exit $?"))
	w.checkRefused("the first process of a container", root, w.run(cmd), "it is the first process of the system")

	// The user, or the agent, can name the process.
	cmd = exec.Command(filepath.Join(w.home, "xterm"), leaseholder.PIDVariable+"="+strconv.Itoa(pid)+"; export "+leaseholder.PIDVariable+"; "+w.leaseCommand(root))
	if o := w.run(cmd); !strings.Contains(o.stdout, fmt.Sprintf("WEB_PORT='%d'", port)) {
		t.Errorf("with %s: exit %d, %q, %s", leaseholder.PIDVariable, o.code, o.stdout, o.stderr)
	}
	if got := w.processLeases(root); len(got) != 1 || got[0] != pid {
		t.Errorf("the leases are for %v, want %d", got, pid)
	}
	for name, own := range map[string]int{"supervisor": w.supervisor(root).PID, "keeper": w.waitKeeper(root)} {
		if o := w.localport(root, "lease", "--pid", strconv.Itoa(own)); o.code == 0 || !strings.Contains(o.stderr, "would keep itself running") {
			t.Errorf("lease for the %s: exit %d, %s", name, o.code, o.stderr)
		}
	}
}

func TestEnvLease_IsNotTakenForARealMultiplexerOrSSHServer(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root, _ := w.leasedProject(t)
	server := sshd.Start(t)
	cmd := exec.Command("ssh", "-F", server.WriteClientConfig(), "-p", strconv.Itoa(server.Port), "-l", server.User, server.Host, w.leaseCommand(root))
	w.checkRefused("sshd", root, w.run(cmd), "it is an ssh server")

	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("tmux is missing (Debian: tmux)")
	}
	script := "(" + w.leaseCommand(root) + ") >out 2>err; echo $? >code.new; mv code.new code"
	tmux := exec.Command("tmux", "-f", "/dev/null", "new-session", "-d", script)
	tmux.Dir, tmux.Env = root, append(w.env, "TMUX_TMPDIR="+w.home, "SHELL=/bin/sh")
	if o := w.run(tmux); o.code != 0 {
		t.Fatalf("tmux: exit %d, %s", o.code, o.stderr)
	}
	eventually(t, "the command in tmux has ended", func() bool { _, err := os.Stat(filepath.Join(root, "code")); return err == nil })
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Error(err)
		}
		return string(text)
	}
	code, _ := strconv.Atoi(strings.TrimSpace(read("code")))
	w.checkRefused("tmux", root, commandResult{read("out"), read("err"), code}, "it is a terminal multiplexer")
}

// A program of a service may start a command with another environment.
func TestEnvLease_DoesNothingBelowAProcessOfAService(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root, _ := w.leasedProject(t)
	cmd := exec.Command("sh", "-c", "env -u "+forwarder.RunVariable+" sh -c "+shellhook.Quote(w.leaseCommand(root))+"; exit $?")
	cmd.Env = append(os.Environ(), forwarder.RunVariable+"=run")
	if o := w.run(cmd); o.code != 0 || o.stdout != "" || o.stderr != "" {
		t.Errorf("exit %d, %q, %s", o.code, o.stdout, o.stderr)
	}
	if leases := w.state(root).Leases; len(leases) > 0 {
		t.Errorf("leases were taken: %+v", leases)
	}
}
