package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/testdata/ports"
)

// stateDir returns the project's state directory.
func (w *testEnv) stateDir(root string) string {
	w.t.Helper()
	paths, _ := filepath.Glob(filepath.Join(w.home, "state/localport/projects/*"))
	for _, path := range paths {
		data, err := os.ReadFile(filepath.Join(path, "state.json"))
		if err == nil && strings.Contains(string(data), fmt.Sprintf("%q", filepath.Join(root, ".localport.toml"))) {
			return path
		}
	}
	w.t.Fatalf("no state directory of %s", root)
	return ""
}

// holdLock holds the project's file lock, as a localport that hangs does, until release is called.
func (w *testEnv) holdLock(root string) (release func()) {
	w.t.Helper()
	file, err := os.OpenFile(filepath.Join(w.stateDir(root), "lock"), os.O_RDWR, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		w.t.Fatal(err)
	}
	released := false
	release = func() {
		if !released {
			released = true
			file.Close()
		}
	}
	w.t.Cleanup(release)
	return release
}

// withPromptLimit returns the same testEnv with another LOCALPORT_LIMIT.
func (w *testEnv) withPromptLimit(limit string) *testEnv {
	other := *w
	other.env = append(slices.Clip(other.env), "LOCALPORT_LIMIT="+limit)
	return &other
}

// newPatientEnv makes a testEnv whose prompts wait as long as a busy machine needs, also for the answer to leaving. It is for tests of what a prompt
// does, not of how long it takes.
func newPatientEnv(t testing.TB) *testEnv {
	t.Helper()
	return newTestEnv(t).withPromptLimit("60s")
}

// stopProcess sends SIGSTOP to a process and returns when all its threads have stopped.
func (w *testEnv) stopProcess(pid int) {
	w.t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	eventually(w.t, "every thread has stopped", func() bool {
		paths, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		for _, path := range paths {
			data, err := os.ReadFile(path)
			_, rest, _ := strings.Cut(string(data), ") ")
			if err == nil && !strings.HasPrefix(rest, "T") {
				return false
			}
		}
		return len(paths) > 0
	})
}

// stopSupervisor stops the supervisor of a project with SIGSTOP, and other processes, at a time when the supervisor does not hold the lock, which others
// could not take.
func (w *testEnv) stopSupervisor(root string, others ...int) lockstate.Process {
	w.t.Helper()
	supervisor := w.supervisor(root)
	defer w.holdLock(root)()
	for _, pid := range append(others, supervisor.PID) {
		w.stopProcess(pid)
	}
	return supervisor
}

func TestCommands_QueryARunningSupervisorWithoutTheLock(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	root := w.allowedProject(tcpConfig("web", port, serve(t, "127.0.0.1:0")) + tcpConfig("own", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	w.waitKeeper(root)
	w.status(root)
	release := w.holdLock(root)
	startTime := time.Now()
	for _, args := range [][]string{
		{"status"},
		{"status", "--json"},
		{"env"},
		{"port", "web"},
		{"metrics"},
		{"daemon", "status"},
		{"daemon", "reload"},
		{"logs", "web"},
	} {
		w.mustRun(root, args...)
	}
	if took := time.Since(startTime); took > 30*time.Second {
		t.Errorf("with the lock held it took %v", took)
	}
	if state := w.service(root, "web").State; state != forwarder.Healthy {
		t.Errorf("web is %s", state)
	}
	release()
	w.stopProject(root)
}

// With the election's lock file deleted, no supervisor seems to be elected, although one is running.
func TestJoin_FindsASupervisorWhoseElectionIsGone(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	w.waitKeeper(root)
	supervisor := w.supervisor(root)
	if err := os.Remove(filepath.Join(w.stateDir(root), "election")); err != nil {
		t.Fatal(err)
	}
	w.mustRun(root, "exec", "--", "true")
	if n := len(w.processes()); n != 2 {
		t.Errorf("%d processes, want a supervisor and a keeper", n)
	}
	sh := w.shell("bash", root)
	if env := sh.Environ(); env["WEB_PORT"] == "" {
		t.Errorf("the shell has no WEB_PORT; it shows %q", sh.Screen())
	}
	if state := w.state(root).Supervisor; state == nil || state.Process != supervisor {
		t.Errorf("the supervisor is %+v, was %+v", state, supervisor)
	}
}

func TestFindSupervisor_IgnoresASocketOfAnotherProject(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	one := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	two := w.allowedProject(tcpConfig("other", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	w.mustRun(one, "start")
	w.mustRun(two, "start")
	socket := w.state(two).Supervisor.Socket
	supervisor := w.supervisor(two)
	kill(t, w.waitKeeper(two))
	kill(t, supervisor.PID)
	w.waitExit(supervisor)
	eventually(t, "only one project's processes are left", func() bool {
		state := w.state(one).Supervisor
		for _, pid := range w.processes() {
			if pid != state.PID && pid != state.Keeper {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				return false
			}
		}
		return true
	})
	_ = os.Remove(socket)
	if err := os.Symlink(w.state(one).Supervisor.Socket, socket); err != nil {
		t.Fatal(err)
	}
	status := w.status(two)
	if status.Config != filepath.Join(two, ".localport.toml") || status.State != "stopped" {
		t.Errorf("status of a project without a supervisor: %+v", status)
	}
	w.mustRun(two, "exec", "--", "true")
	if leases := w.state(one).Leases; len(leases) != 1 || leases[0].Kind != lockstate.StartLease {
		t.Errorf("the other project has the leases %+v", leases)
	}
}
