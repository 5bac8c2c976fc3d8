package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/testdata/ports"
)

// newTestEnvWithSmallDisk returns a testEnv whose state is on a small file system of its own.
func newTestEnvWithSmallDisk(t testing.TB) *testEnv {
	t.Helper()
	w := newTestEnv(t)
	dir := filepath.Join(w.home, "state")
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("mount tmpfs: %v", err)
	}
	t.Cleanup(func() {
		w.stopAll() // running processes prevent the unmount
		eventually(t, "the disk is unmounted", func() bool { return unix.Unmount(dir, 0) == nil })
	})
	return w
}

// fillDisk fills the disk with the state; free undoes it.
func (w *testEnv) fillDisk() (free func()) {
	w.t.Helper()
	path := filepath.Join(w.home, "state/filling")
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	defer file.Close()
	for chunk := make([]byte, 4096); err == nil; {
		_, err = file.Write(chunk)
	}
	if !errors.Is(err, unix.ENOSPC) {
		w.t.Fatal(err)
	}
	return func() { _ = os.Remove(path) }
}

func TestFullDisk_ShellsJoinAndLeaveNamespace(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnvWithSmallDisk(t)
		port := ports.FreePort(t)
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		root := w.allowedProject("linger = 0.1\n" + tcpConfig("web", port, serve(t, "127.0.0.1:0")))
		first := w.shell(kind, root)
		w.waitKeeper(root)
		supervisor := w.supervisor(root)
		free := w.fillDisk()

		second := w.shell(kind, w.home)
		second.Run("cd " + root)
		if out := second.Output(); strings.Count(out, "localport:") != 1 || !strings.Contains(out, "web :") {
			t.Errorf("entering printed %q", out)
		}
		if env := second.Environ(); env["WEB_PORT"] != fmt.Sprint(port) {
			t.Errorf("WEB_PORT=%q", env["WEB_PORT"])
		}
		if pids := w.leasePIDs(root, api.ShellLease); len(pids) != 2 {
			t.Errorf("leases of %v, want two", pids)
		}
		w.mustRun(root, "exec", "--", "true")

		first.Run("cd " + w.home)
		if out := first.Output(); strings.Contains(out, "localport") {
			t.Errorf("leaving printed %q", out)
		}
		if pids := w.leasePIDs(root, api.ShellLease); len(pids) != 1 || pids[0] != second.PID() {
			t.Errorf("leases of %v, want that of %d", pids, second.PID())
		}
		// The file still has the first lease; the supervisor knows that it was released.
		first.Run("cd " + root)
		if pids := w.leasePIDs(root, api.ShellLease); len(pids) != 2 {
			t.Errorf("after entering again, leases of %v, want two", pids)
		}
		first.Run("cd " + w.home)
		if pids := w.leasePIDs(root, api.ShellLease); len(pids) != 1 || pids[0] != second.PID() {
			t.Errorf("after leaving again, leases of %v, want that of %d", pids, second.PID())
		}
		if answer, err := ask(addr, "you"); answer != "hello you\n" {
			t.Errorf("through the forward: %q, %v", answer, err)
		}
		second.Run("cd " + w.home)
		w.waitExit(supervisor)
		free()
	})
}

func TestFullDisk_StartLeaseCountsNamespace(t *testing.T) {
	t.Parallel()
	w := newTestEnvWithSmallDisk(t)
	root := w.allowedProject("linger = 0.1\n" + tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	sh := w.shell("bash", root)
	w.waitKeeper(root)
	supervisor := w.supervisor(root)
	free := w.fillDisk()
	w.mustRun(root, "start")
	sh.Run("cd /")
	if leases := w.status(root).Leases; len(leases) != 1 || leases[0].Kind != api.StartLease {
		t.Errorf("the leases are %+v", leases)
	}
	if o := w.localport(root, "stop"); !strings.Contains(o.stderr, "no space left") && o.code != 0 {
		t.Errorf("exit %d\n%s", o.code, o.stderr)
	}
	w.waitExit(supervisor)
	free()
}

func TestLeases_FailedReleaseIsRetried(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnv(t).withPromptLimit("2s")
		root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
		w.mustRun(root, "start")
		w.waitKeeper(root)
		sh := w.shell(kind, root)
		supervisor := w.supervisor(root)
		eventually(t, "it is healthy", func() bool { return w.service(root, "web").State == forwarder.Healthy })
		sh.Run("true") // it evaluates what has changed since the first prompt, so that the next command does not
		release := w.holdLock(root)
		w.stopProcess(supervisor.PID)

		sh.Run("cd " + w.home)
		want := "localport: leave " + root + ": the supervisor"
		if out := sh.Output(); strings.Count(out, "localport:") != 1 || !strings.Contains(out, want) {
			t.Errorf("leaving printed %q, want one line with %q", out, want)
		}
		if env := sh.Environ(); hasVariable(env, "WEB_PORT") {
			t.Error("WEB_PORT is still set after leaving")
		}
		sh.Run("true")
		if out := sh.Output(); strings.Contains(out, "localport") {
			t.Errorf("the next prompt printed %q", out)
		}
		release()
		_ = unix.Kill(supervisor.PID, unix.SIGCONT)
		w.status(root)
		advanceClock := "SECONDS=$((SECONDS + 5))"
		if kind == "fish" {
			advanceClock = "set -g __localport_since (math $__localport_since - 5)"
		}
		eventually(t, "the shell has no lease", func() bool { // on a busy machine, not at the first prompt that retries
			sh.Run(advanceClock)
			if out := sh.Output(); strings.Contains(out, "localport: ") {
				t.Errorf("the prompt that retried printed %q", out)
			}
			return !slices.ContainsFunc(w.state(root).Leases, func(l lockstate.Lease) bool { return l.Kind == lockstate.ShellLease })
		})
	})
}

// If entering a project has failed, a later prompt retries.
func TestPrompt_FailedEnteringIsRetried(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnv(t).withPromptLimit("2s")
		root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
		w.mustRun(root, "start")
		w.waitKeeper(root)
		w.mustRun(root, "stop")
		release := w.holdLock(root)
		sh := w.shell(kind, w.home)
		sh.Run("cd " + root)
		if out := sh.Output(); strings.Count(out, "localport:") != 1 || !strings.Contains(out, "held by") {
			t.Errorf("entering printed %q", out)
		}
		release()
		advanceClock := "SECONDS=$((SECONDS + 5))"
		if kind == "fish" {
			advanceClock = "set -g __localport_since (math $__localport_since - 5)"
		}
		eventually(t, "the shell has entered", func() bool {
			sh.Run(advanceClock)
			return hasVariable(sh.Environ(), "WEB_PORT")
		})
	}, otherShells...)
}

// A home directory that cannot be written to, or not even created, is named with the variable that helps.
func TestUnwritable_HomeIsNamedWithTheVariableThatHelps(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.project(tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	run := func(args []string, env ...string) commandResult {
		cmd := w.command(root, args...)
		cmd.Env = slices.DeleteFunc(cmd.Env, func(entry string) bool { return strings.HasPrefix(entry, "XDG_") })
		cmd.Env = append(append(cmd.Env, "HOME=/proc/none", "XDG_RUNTIME_DIR="+w.runtimeDir()), env...)
		return w.run(cmd)
	}
	for command, variable := range map[string]string{"allow": "XDG_DATA_HOME", "status": "XDG_STATE_HOME", "start": "XDG_STATE_HOME", "stop": "XDG_STATE_HOME"} {
		o := run([]string{command})
		if o.code != 1 || !strings.Contains(o.stderr, "/proc/none") || !strings.Contains(o.stderr, variable) || strings.Contains(o.stderr, "another process") {
			t.Errorf("%s: exit %d, %s", command, o.code, o.stderr)
		}
	}
	set := []string{"XDG_DATA_HOME=" + w.home + "/other/data", "XDG_STATE_HOME=" + w.home + "/other/state"}
	for _, command := range []string{"allow", "start", "stop"} {
		if o := run([]string{command}, set...); o.code != 0 {
			t.Errorf("%s with the variables set: exit %d, %s", command, o.code, o.stderr)
		}
	}
}
