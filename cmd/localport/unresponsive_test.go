package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/shellpty"
)

// frozenSupervisor starts a project and stops its supervisor with SIGSTOP, at a time when it holds no lock.
func frozenSupervisor(t *testing.T) (w *testEnv, root, addr string) {
	t.Helper()
	w = newTestEnv(t).withPromptLimit("2s")
	port := ports.FreePort(t)
	root = w.allowedProject(tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	w.waitKeeper(root)
	w.status(root)
	w.stopSupervisor(root)
	return w, root, fmt.Sprintf("127.0.0.1:%d", port)
}

func TestStatus_NamesASupervisorThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	w, root, _ := frozenSupervisor(t)
	want := fmt.Sprintf("localport: the supervisor (pid %d) did not answer within 10s\nhint: localport daemon restart\n", w.supervisor(root).PID)
	if o := w.localport(root, "status"); o.code != output.ExitFailed || o.stderr != want {
		t.Errorf("exit %d\n%s, want\n%s", o.code, o.stderr, want)
	}
}

func TestDaemonRestart_ReplacesASupervisorThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	w, root, addr := frozenSupervisor(t)
	frozen := w.supervisor(root)
	o := w.localport(root, "daemon", "restart")
	if o.code != 0 || !strings.HasPrefix(o.stdout, "restarted: pid ") ||
		o.stderr != fmt.Sprintf("localport: stopped the supervisor (pid %d), which did not answer\n", frozen.PID) {
		t.Errorf("exit %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	if frozen.IsAlive() {
		t.Error("the frozen supervisor is still running")
	}
	if answer, err := ask(addr, "you"); answer != "hello you\n" {
		t.Errorf("through the forward: %q, %v", answer, err)
	}
	if leases := w.status(root).Leases; len(leases) != 1 {
		t.Errorf("the leases are %+v", leases)
	}
	w.stopProject(root, addr)
}

// The keeper starts the next supervisor with the environment of the stopped one, and without a keeper a prompt's may be the first.
func TestDaemonRestart_OfAnUnresponsiveSupervisorUsesTheEnvironmentOfTheCaller(t *testing.T) {
	t.Parallel()
	for _, hasKeeper := range []bool{true, false} {
		t.Run(fmt.Sprintf("keeper %v", hasKeeper), func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t).withPromptLimit("2s")
			a, b, port := serve(t, "127.0.0.1:0"), serveBanner(t), ports.FreePort(t)
			one, two := w.withEnv(fmt.Sprintf("UPSTREAM=%d", a.port)), w.withEnv(fmt.Sprintf("UPSTREAM=%d", b.port))
			root := one.allowedProject(strings.Replace(tcpConfig("web", port, a), fmt.Sprint("remote_port = ", a.port), `remote_port = "${UPSTREAM}"`, 1))
			one.mustRun(root, "start")
			keeper := w.waitKeeper(root)
			w.status(root)
			release := w.holdLock(root) // so that the supervisor is not stopped while it holds the lock
			w.stopProcess(w.supervisor(root).PID)
			if !hasKeeper {
				kill(t, keeper)
			}
			release()
			two.mustRun(root, "daemon", "restart")
			if answer, err := readAll(fmt.Sprintf("127.0.0.1:%d", port)); answer != banner {
				t.Errorf("after daemon restart in the other shell: %q, %v", answer, err)
			}
			if out := two.mustRun(root, "status"); strings.Contains(out, "differ") {
				t.Errorf("status in that shell:\n%s", out)
			}
			if leases := w.status(root).Leases; len(leases) != 1 {
				t.Errorf("the leases are %+v", leases)
			}
		})
	}
}

func TestStop_StopsASupervisorThatDoesNotAnswer(t *testing.T) {
	for _, args := range [][]string{{"stop"}, {"daemon", "stop"}, {"deny"}} {
		t.Run(args[0], func(t *testing.T) {
			t.Parallel()
			w, root, addr := frozenSupervisor(t)
			if o := w.localport(root, args...); o.code != 0 || !strings.Contains(o.stderr, "which did not answer") {
				t.Errorf("exit %d\n%s%s", o.code, o.stdout, o.stderr)
			}
			eventually(t, "every process has ended", func() bool { return len(w.processes()) == 0 })
			w.checkNothingLeft(root, addr)
		})
	}
}

// A supervisor that is stopped while it writes holds the file lock too.
func TestStop_StopsASupervisorThatHoldsTheLock(t *testing.T) {
	t.Parallel()
	w, root, addr := frozenSupervisor(t)
	supervisor := w.supervisor(root)
	lock := filepath.Join(w.stateDir(root), "lock")
	// The test holds the lock in place of the supervisor, and releases it when the supervisor has ended.
	release := w.holdLock(root)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.waitExit(supervisor)
		release()
	}()
	if o := w.localport(root, "stop"); o.code != 0 {
		t.Errorf("exit %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	<-done
	eventually(t, "every process has ended", func() bool { return len(w.processes()) == 0 })
	w.checkNothingLeft(root, addr)
	if !w.state(root).Down {
		t.Errorf("the project is not down; %s", lock)
	}
}

// frozenKeeper starts a project, stops its keeper with SIGSTOP and kills its supervisor, which is therefore not replaced.
func frozenKeeper(t *testing.T) (w *testEnv, root, addr string, keeper int) {
	t.Helper()
	w = newTestEnv(t).withPromptLimit("2s")
	port := ports.FreePort(t)
	root = w.allowedProject(tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	keeper = w.waitKeeper(root)
	w.status(root)
	supervisor := w.supervisor(root)
	w.stopProcess(keeper)
	frozen, _ := lockstate.FindProcess(keeper)
	t.Cleanup(func() { // before stopProcess continues the keeper, which would start another supervisor
		if frozen.IsAlive() {
			_ = syscall.Kill(keeper, syscall.SIGKILL)
		}
	})
	kill(t, supervisor.PID)
	w.waitExit(supervisor)
	return w, root, fmt.Sprintf("127.0.0.1:%d", port), keeper
}

func TestPrompt_NamesAKeeperThatDoesNotAnswer(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w, root, _, keeper := frozenKeeper(t)
		sh := w.shell(kind, w.home)
		sh.Run("cd " + root)
		// What is left of a prompt's 2 s when the keeper is asked.
		want := regexp.MustCompile(fmt.Sprintf(`^localport: the keeper \(pid %d\) did not answer within [0-9.]+m?s; run "localport daemon restart"$`, keeper))
		if out := sh.Output(); !want.MatchString(out) {
			t.Errorf("printed %q, want %s", out, want)
		}
	})
}

func TestDaemonRestart_ReplacesAKeeperThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	w, root, addr, keeper := frozenKeeper(t)
	if o := w.localport(root, "daemon", "restart"); o.code != 0 ||
		o.stderr != fmt.Sprintf("localport: stopped the keeper (pid %d), which did not answer\n", keeper) {
		t.Errorf("exit %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	if answer, err := ask(addr, "you"); answer != "hello you\n" {
		t.Errorf("through the forward: %q, %v", answer, err)
	}
	w.stopProject(root, addr)
}

// stoppedKeeperLimit is much shorter than the time that a command waits for an answer.
const stoppedKeeperLimit = 9 * time.Second

func TestStatus_NamesAStoppedKeeperAtOnce(t *testing.T) {
	t.Parallel()
	for _, isBound := range []bool{true, false} {
		t.Run(fmt.Sprintf("socket %v", isBound), func(t *testing.T) {
			t.Parallel()
			w, root, _, keeper := frozenKeeper(t)
			if !isBound {
				if err := os.Remove(w.state(root).Supervisor.Socket); err != nil {
					t.Fatal(err)
				}
			}
			startTime := time.Now()
			o := w.localport(root, "status")
			want := fmt.Sprintf("localport: the keeper (pid %d) is stopped (SIGSTOP) and its supervisor has exited\n"+
				"hint: localport daemon restart\n", keeper)
			if took := time.Since(startTime); o.code != output.ExitFailed || o.stderr != want || took > stoppedKeeperLimit {
				t.Errorf("after %v exit %d\n%s, want\n%s", took, o.code, o.stderr, want)
			}
		})
	}
}

func TestStop_StopsAKeeperThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	w, root, addr, _ := frozenKeeper(t)
	startTime := time.Now()
	w.mustRun(root, "stop")
	if took := time.Since(startTime); took > stoppedKeeperLimit {
		t.Errorf("it took %v", took)
	}
	eventually(t, "every process has ended", func() bool { return len(w.processes()) == 0 })
	w.checkNothingLeft(root, addr)
}

// Another program holds the election's lock, and a process that has the arguments of a keeper is not one.
func TestStop_TerminatesNoForeignProcess(t *testing.T) {
	t.Parallel()
	w, root, _, keeper := frozenKeeper(t)
	_ = syscall.Kill(keeper, syscall.SIGKILL)
	eventually(t, "every process has ended", func() bool { return len(w.processes()) == 0 })
	other := startKeeperLookalike(t)
	// The test holds the election instead of a supervisor.
	election, err := os.OpenFile(filepath.Join(w.stateDir(root), "election"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer election.Close()
	if err := syscall.Flock(int(election.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	want := "localport: the supervisor did not answer within 10s\n"
	if o := w.localport(root, "stop"); o.code != output.ExitFailed || !strings.HasPrefix(o.stderr, want) {
		t.Errorf("exit %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	if err := syscall.Kill(other, 0); err != nil {
		t.Errorf("a process of another program was ended: %v", err)
	}
}

// startKeeperLookalike starts a process that has a keeper's arguments but is not a keeper.
func startKeeperLookalike(t *testing.T) int {
	t.Helper()
	dir := shellpty.NewDir(t)
	if err := syscall.Mkfifo(filepath.Join(dir, client.KeeperArg), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("cat", client.KeeperArg) // it waits for a writer
	cmd.Dir = dir
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd.Process.Pid
}

// A supervisor that is killed while it starts is recorded nowhere.
func TestStop_RemovesTheRunDirectoryOfAnUnrecordedSupervisor(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t).withShortRuntimeDir()
	port := ports.FreePort(t)
	root := w.allowedProject(tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	abandoned := filepath.Join(w.runtimeDir(), "localport/abandone")
	abandon := func() {
		t.Helper()
		if err := os.MkdirAll(abandoned, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(abandoned, "lock"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	abandon()
	w.mustRun(root, "start")
	eventually(t, "the supervisor has removed the abandoned directory", func() bool {
		_, err := os.Stat(abandoned)
		return errors.Is(err, fs.ErrNotExist)
	})
	w.waitKeeper(root)
	abandon()
	w.stopProject(root, fmt.Sprintf("127.0.0.1:%d", port))
}
