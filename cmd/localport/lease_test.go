package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/localport-sh/localport/cmd/localport/internal/leaseholder"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/shellpty"
)

// startSleep starts a process that a lease can be for; end ends it.
func startSleep(t *testing.T) (pid int, end func()) {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	t.Cleanup(end)
	return cmd.Process.Pid, end
}

// leasedProject is an allowed project whose only service is web, and the port of that.
func (w *testEnv) leasedProject(t *testing.T) (root string, port int) {
	t.Helper()
	port = ports.FreePort(t)
	return w.allowedProject("linger = 0.1\n" + tcpConfig("web", port, serve(t, "127.0.0.1:0"))), port
}

// processLeases returns the pids of the processes for which leases were taken.
func (w *testEnv) processLeases(root string) (pids []int) {
	for _, lease := range w.state(root).Leases {
		if lease.Kind == lockstate.ProcessLease {
			pids = append(pids, lease.PID)
		}
	}
	return pids
}

func TestLease_EndsWithItsProcess(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root, port := w.leasedProject(t)
	pid, end := startSleep(t)
	if out := w.mustRun(root, "lease", "--pid", strconv.Itoa(pid)); !strings.Contains(out, fmt.Sprintf("export WEB_PORT='%d'\n", port)) {
		t.Errorf("lease printed %q", out)
	}
	w.mustRun(root, "lease", "--pid", strconv.Itoa(pid), "--json") // again: still one lease
	if got := w.processLeases(root); !slices.Equal(got, []int{pid}) {
		t.Errorf("the leases are for %v, want %d", got, pid)
	}
	if answer, err := ask(fmt.Sprintf("127.0.0.1:%d", port), "you"); answer != "hello you\n" {
		t.Errorf("through the forward: %q, %v", answer, err)
	}
	if out := w.mustRun(root, "status"); !strings.Contains(out, "used by 1 process") {
		t.Errorf("status: %s", out)
	}
	supervisor := w.supervisor(root)
	end()
	w.waitExit(supervisor)
	w.checkNothingLeft(root)
}

// An editor that asks again does not undo `localport stop`; another process starts the project as a cd does.
func TestLease_DoesNotUndoStop(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root, _ := w.leasedProject(t)
	editor, _ := startSleep(t)
	w.mustRun(root, "lease", "--pid", strconv.Itoa(editor))
	w.mustRun(root, "stop")
	o := w.localport(root, "lease", "--pid", strconv.Itoa(editor))
	if o.code == 0 || o.stdout != "" || !strings.Contains(o.stderr, "the project is stopped") || !strings.Contains(o.stderr, "localport start") {
		t.Errorf("lease of a stopped project: exit %d, %q, %s", o.code, o.stdout, o.stderr)
	}
	other, _ := startSleep(t)
	w.mustRun(root, "lease", "--pid", strconv.Itoa(other))
}

func TestLease_RefusesWhatDoesNotEnd(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root, _ := w.leasedProject(t)
	_, end := startSleep(t)
	ended, endNow := startSleep(t)
	endNow()
	for pid, want := range map[string]string{
		"1":                 "first process of the system",
		"0":                 `"0" is not a process id`,
		"me":                `"me" is not a process id`,
		strconv.Itoa(ended): "there is no such process",
	} {
		o := w.localport(root, "lease", "--pid", pid)
		if o.code != 1 || o.stdout != "" || !strings.Contains(o.stderr, want) || !strings.Contains(o.stderr, leaseholder.PIDVariable) {
			t.Errorf("--pid %s: exit %d, %q, %s", pid, o.code, o.stdout, o.stderr)
		}
	}
	end()
	if leases := w.state(root).Leases; len(leases) > 0 {
		t.Errorf("leases were taken: %+v", leases)
	}
}

// A program of a service that runs a shell with a hook would keep its own project running.
func TestLease_DoesNothingInAProcessOfAService(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root, _ := w.leasedProject(t)
	pid, _ := startSleep(t)
	cmd := w.command(root, "lease")
	cmd.Env = append(cmd.Env, forwarder.RunVariable+"=run")
	if o := w.run(cmd); o.code != 0 || o.stdout != "" || o.stderr != "" {
		t.Errorf("exit %d, %q, %s", o.code, o.stdout, o.stderr)
	}
	marked := exec.Command("sleep", "600")
	marked.Env = []string{"PATH=" + os.Getenv("PATH"), forwarder.RunVariable + "=run"}
	if err := marked.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = marked.Process.Kill(); _ = marked.Wait() })
	if out := w.mustRun(root, "lease", "--pid", strconv.Itoa(marked.Process.Pid)); out != "" {
		t.Errorf("lease for a process of a service printed %q", out)
	}
	if leases := w.state(root).Leases; len(leases) > 0 {
		t.Errorf("leases were taken: %+v (a process without the variable is %d)", leases, pid)
	}
}

func TestLease_IsOptionalOutsideAProject(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	pid, _ := startSleep(t)
	if out := w.mustRun(w.home, "lease", "--if-project", "--pid", strconv.Itoa(pid)); out != "" {
		t.Errorf("outside a project lease printed %q", out)
	}
	if o := w.localport(w.home, "lease", "--pid", strconv.Itoa(pid)); o.code == 0 || !strings.Contains(o.stderr, "no .localport.toml") {
		t.Errorf("without --if-project: exit %d, %s", o.code, o.stderr)
	}
}

// plainShell starts a shell without the hook, in dir.
func (w *testEnv) plainShell(kind, rc, dir string) *shellpty.Shell {
	w.t.Helper()
	return shellpty.Start(w.t, shellpty.Config{Shell: kind, RC: rc, Dir: dir, Home: w.home, Env: w.env[2:]})
}

// An agent starts a new shell for each command. The lease is the agent's, so that what one command is told is still there in the next one.
func TestEnvLease_OfAnAgentsCommandsIsTheAgents(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnv(t)
		root, port := w.leasedProject(t)
		w.writeFile(root, "agent.sh", `echo $$ >agent
for command in 1 2; do
	bash -c 'eval "$(`+w.exe+` env --lease)"; sh -c "echo \$WEB_PORT" >>ports'
done
mkfifo quit
read -r _ <quit
`)
		sh := w.plainShell(kind, "", root)
		sh.Run("sh agent.sh & disown; true")
		eventually(t, "both commands have run", func() bool {
			text, _ := os.ReadFile(filepath.Join(root, "ports"))
			return string(text) == fmt.Sprintf("%d\n%d\n", port, port)
		})
		text, err := os.ReadFile(filepath.Join(root, "agent"))
		if err != nil {
			t.Fatal(err)
		}
		agent, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		if got := w.processLeases(root); !slices.Equal(got, []int{agent}) {
			t.Errorf("the leases are for %v, want the agent, %d", got, agent)
		}
		supervisor := w.supervisor(root)
		eventually(t, "the agent waits", func() bool { _, err := os.Stat(filepath.Join(root, "quit")); return err == nil })
		if err := os.WriteFile(filepath.Join(root, "quit"), []byte("\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		w.waitExit(supervisor)
	})
}

// direnv evaluates .envrc in a bash that ends at once, as a child of the shell. The lease is the shell's.
func TestEnvLease_InEnvrcIsTheShells(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnv(t)
		root, port := w.leasedProject(t)
		w.writeFile(root, ".envrc", `eval "$(`+w.exe+` env --lease)"`+"\n")
		rc := `eval "$(direnv hook ` + kind + `)"`
		if kind == "fish" {
			rc = "direnv hook fish | source"
		}
		allow := exec.Command("direnv", "allow", root)
		allow.Env = w.env
		if out, err := allow.CombinedOutput(); err != nil {
			t.Fatalf("direnv allow: %v, %s", err, out)
		}
		sh := w.plainShell(kind, rc, w.home)
		sh.Run("cd " + root)
		if got := sh.Environ()["WEB_PORT"]; got != strconv.Itoa(port) {
			t.Errorf("WEB_PORT is %q; %s", got, sh.Output())
		}
		if got := w.processLeases(root); !slices.Equal(got, []int{sh.PID()}) {
			t.Errorf("the leases are for %v, want the shell, %d", got, sh.PID())
		}
		supervisor := w.supervisor(root)
		sh.Exit("exit")
		w.waitExit(supervisor)
	})
}

// The recipes for shells without a prompt: files that bash and zsh read before every script and command.
func TestLease_InFilesThatShellsReadWithoutAPrompt(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root, port := w.leasedProject(t)
	pid, _ := startSleep(t)
	w.writeFile(w.home, ".zshenv", `eval "$(`+w.exe+` lease --if-project)"`+"\n")
	w.writeFile(w.home, "bash_env", `eval "$(`+w.exe+` lease --if-project)"`+"\n")
	for _, shell := range []string{"bash", "zsh"} {
		for dir, want := range map[string]string{root: strconv.Itoa(port) + "\n", w.home: "\n"} {
			cmd := exec.Command(shell, "-c", "echo $WEB_PORT")
			cmd.Dir = dir
			cmd.Env = append(slices.Clone(w.env), "BASH_ENV="+filepath.Join(w.home, "bash_env"), leaseholder.PIDVariable+"="+strconv.Itoa(pid))
			if o := w.run(cmd); o.stdout != want || o.stderr != "" {
				t.Errorf("%s in %s: %q, %s; want %q", shell, dir, o.stdout, o.stderr, want)
			}
		}
	}
	if got := w.processLeases(root); !slices.Equal(got, []int{pid}) {
		t.Errorf("the leases are for %v, want %d", got, pid)
	}
}
