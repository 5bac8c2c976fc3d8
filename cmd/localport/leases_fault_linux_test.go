package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/testdata/ports"
)

// stateFault is a fault that prevents a project's state from being written or read, until end is called.
type stateFault struct {
	newEnv func(t testing.TB) *testEnv // nil: newTestEnv
	begin  func(t *testing.T, w *testEnv, root string) (end func())
	// isSilent is set if a shell that leaves prints nothing, because it releases its lease through the supervisor.
	isSilent bool
	// isNoticedLater is set if the supervisor sees the release only after the fault.
	isNoticedLater bool
}

var stateFaults = map[string]stateFault{
	"full disk": {
		newEnv: newTestEnvWithSmallDisk, isSilent: true,
		begin: func(_ *testing.T, w *testEnv, _ string) func() { return w.fillDisk() },
	},
	"no inodes": {
		newEnv: newTestEnvWithSmallDisk, isSilent: true,
		begin: func(t *testing.T, w *testEnv, _ string) func() { return w.exhaustInodes() },
	},
	"read-only file system": {
		newEnv: newTestEnvWithSmallDisk, isSilent: true,
		begin: func(_ *testing.T, w *testEnv, _ string) func() { return w.makeReadOnly() },
	},
	"lock held": {
		begin: func(_ *testing.T, w *testEnv, root string) func() { return w.holdLock(root) },
	},
	"state home unreachable": {
		begin: func(_ *testing.T, w *testEnv, _ string) func() { return w.moveState() },
	},
	"no descriptors": {
		isSilent: true, isNoticedLater: true,
		begin: func(t *testing.T, w *testEnv, root string) func() {
			supervisor := w.supervisor(root)
			setDescriptorLimit(t, supervisor.PID, 3)
			return func() {
				if supervisor.IsAlive() {
					setDescriptorLimit(t, supervisor.PID, 1024)
				}
			}
		},
	},
}

// exhaustInodes creates files until the disk with the state has no more inodes; end removes them.
func (w *testEnv) exhaustInodes() (end func()) {
	w.t.Helper()
	disk := filepath.Join(w.home, "state")
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT, "nr_inodes=200"); err != nil {
		w.t.Skipf("limit the inodes: %v", err)
	}
	dir := filepath.Join(disk, "filling")
	if err := os.Mkdir(dir, 0o700); err != nil {
		w.t.Fatal(err)
	}
	for i := 0; ; i++ {
		file, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			break
		}
		file.Close()
	}
	return func() { _ = os.RemoveAll(dir) }
}

// makeReadOnly makes the disk with the state read-only for files that are opened from now on; end undoes it.
func (w *testEnv) makeReadOnly() (end func()) {
	w.t.Helper()
	disk := filepath.Join(w.home, "state")
	if err := unix.Mount(disk, disk, "", unix.MS_BIND, ""); err != nil {
		w.t.Skipf("bind: %v", err)
	}
	isMounted := true
	end = func() {
		if isMounted {
			_ = unix.Unmount(disk, unix.MNT_DETACH)
			isMounted = false
		}
	}
	w.t.Cleanup(end)
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		w.t.Skipf("make it read-only: %v", err)
	}
	return end
}

// moveState replaces the state home by a file; end undoes it.
func (w *testEnv) moveState() (end func()) {
	w.t.Helper()
	state := filepath.Join(w.home, "state")
	if err := os.Rename(state, state+".away"); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(state, nil, 0o600); err != nil {
		w.t.Fatal(err)
	}
	return func() {
		_ = os.Remove(state)
		_ = os.Rename(state+".away", state)
	}
}

// setDescriptorLimit sets a process's limit of open files. Descriptors that are open already may be above it.
func setDescriptorLimit(t *testing.T, pid int, limit uint64) {
	t.Helper()
	var now unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &now); err != nil {
		t.Fatal(err)
	}
	now.Cur = min(limit, now.Max)
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &now, nil); err != nil {
		t.Fatal(err)
	}
}

// withStateFault runs a test with a project; begin begins the fault.
func withStateFault(t *testing.T, o stateFault, test func(w *testEnv, root, addr string, begin func() (end func()))) {
	t.Parallel()
	if o.newEnv == nil {
		o.newEnv = newTestEnv
	}
	w := o.newEnv(t).withPromptLimit("2s")
	port := ports.FreePort(t)
	root := w.allowedProject("linger = 0.1\n" + tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	test(w, root, fmt.Sprintf("127.0.0.1:%d", port), func() func() {
		w.waitKeeper(root)
		w.status(root)
		return o.begin(t, w, root)
	})
}

func TestLeases_LastShellDiesWhileStateIsUnwritableNamespace(t *testing.T) {
	for name, o := range stateFaults {
		t.Run(name, func(t *testing.T) {
			withStateFault(t, o, func(w *testEnv, root, addr string, begin func() func()) {
				sh := w.shell("bash", root)
				supervisor := w.supervisor(root)
				end := begin()
				sh.Kill()
				w.waitExit(supervisor) // although the fault lasts
				end()
				w.waitAllEnded()
				if conn, err := ask(addr, "you"); err == nil {
					t.Errorf("the port answers %q", conn)
				}
				w.mustRun(root, "exec", "--", "true")
				w.waitAllEnded()
				w.checkNothingLeft(root, addr)
			})
		})
	}
}

func TestLeases_ShellLeavesWhileStateIsUnwritableNamespace(t *testing.T) {
	for name, o := range stateFaults {
		t.Run(name, func(t *testing.T) {
			withStateFault(t, o, func(w *testEnv, root, addr string, begin func() func()) {
				sh := w.shell("bash", root)
				supervisor := w.supervisor(root)
				end := begin()
				sh.Run("cd " + w.home)
				if out := sh.Output(); o.isSilent && strings.Contains(out, "localport:") {
					t.Errorf("leaving printed %q", out)
				}
				if hasVariable(sh.Environ(), "WEB_PORT") {
					t.Error("WEB_PORT is still set after leaving")
				}
				if o.isSilent && !o.isNoticedLater {
					w.waitExit(supervisor)
				}
				end()
				if o.isNoticedLater {
					w.waitExit(supervisor)
				}
				if !o.isSilent {
					eventually(t, "the shell has left", func() bool {
						sh.Run("SECONDS=$((SECONDS + 5))")
						return !supervisor.IsAlive()
					})
				}
				w.mustRun(root, "exec", "--", "true")
				eventually(t, "nothing but the shell is left", func() bool {
					return !slices.ContainsFunc(w.processes(), func(pid int) bool { return pid != sh.PID() })
				})
				w.checkNothingLeft(root, addr)
			})
		})
	}
}

// The keeper passes on what could not be written.
func TestLeases_SuccessorOfAKilledSupervisorKnowsUnwrittenLeasesNamespace(t *testing.T) {
	for _, name := range []string{"full disk", "no inodes", "read-only file system"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTestEnvWithSmallDisk(t)
			root := w.allowedProject("linger = 0.1\n" + tcpConfig("web", "\"auto\"", serve(t, "127.0.0.1:0")) + tcpConfig("api", ports.FreePort(t), serve(t, "127.0.0.1:0")))
			first := w.shell("bash", root)
			w.waitKeeper(root)
			w.status(root)
			supervisor, auto := w.supervisor(root), w.service(root, "web").Address
			end := stateFaults[name].begin(t, w, root)

			second := w.shell("bash", root)
			w.mustRun(root, "stop", "api")
			first.Run("cd " + w.home)
			want := []int{second.PID()}
			eventually(t, "the supervisor has only the second lease", func() bool { return slices.Equal(w.leasePIDs(root, api.ShellLease), want) })

			for range 2 { // the file still has the first lease, also the second time
				kill(t, supervisor.PID)
				w.waitExit(supervisor)
				before := supervisor
				eventually(t, "another supervisor answers", func() bool {
					now := w.status(root).Supervisor
					if now != nil {
						supervisor, _ = lockstate.FindProcess(now.PID)
					}
					return now != nil && supervisor != before
				})
				if pids := w.leasePIDs(root, api.ShellLease); !slices.Equal(pids, want) {
					t.Errorf("leases of %v, want %v", pids, want)
				}
				if now := w.service(root, "web"); now.Address != auto {
					t.Errorf("web is at %s, was at %s", now.Address, auto)
				}
				if now := w.service(root, "api"); now.State != "stopped" {
					t.Errorf("api is %s", now.State)
				}
			}
			checkServed(t, auto)
			second.Run("cd " + w.home)
			w.waitExit(supervisor)
			end()
		})
	}
}

func isStartLease(lease api.Lease) bool { return lease.Kind == api.StartLease }

func TestLeases_StopWorksOnAFullDiskNamespace(t *testing.T) {
	for _, name := range []string{"full disk", "no inodes", "read-only file system"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTestEnvWithSmallDisk(t)
			port := ports.FreePort(t)
			root := w.allowedProject(tcpConfig("web", port, serve(t, "127.0.0.1:0")))
			w.mustRun(root, "start")
			w.waitKeeper(root)
			sh := w.shell("bash", root)
			end := stateFaults[name].begin(t, w, root)
			state := filepath.Join(w.stateDir(root), "state.json")
			o := w.localport(root, "stop")
			t.Logf("stop: exit %d\n%s%s", o.code, o.stdout, o.stderr)
			if o.code != 0 {
				t.Errorf("exit %d", o.code)
			}
			if name == "read-only file system" && (strings.Count(o.stderr, "\n") != 1 ||
				!strings.HasPrefix(o.stderr, "localport: warning: write "+state+": read-only file system")) {
				t.Errorf("stop does not say what it could not write: %q", o.stderr)
			}
			eventually(t, "nothing but the shell is left", func() bool {
				return !slices.ContainsFunc(w.processes(), func(pid int) bool { return pid != sh.PID() })
			})
			if answer, err := ask(fmt.Sprintf("127.0.0.1:%d", port), "you"); err == nil {
				t.Errorf("the port answers %q", answer)
			}
			end()

			// The stop is remembered: a prompt starts nothing, and the start lease is gone.
			sh.Run("true")
			if hasVariable(sh.Environ(), "WEB_PORT") {
				t.Error("a prompt has started a stopped project")
			}
			if now := w.status(root); now.State != api.StateStopped || slices.ContainsFunc(now.Leases, isStartLease) {
				t.Errorf("the project is %s, the leases are %+v", now.State, now.Leases)
			}
			sh.Kill()
			w.mustRun(root, "start")
			if now := w.status(root); now.State != api.StateRunning || !slices.ContainsFunc(now.Leases, isStartLease) {
				t.Errorf("after start the project is %s, the leases are %+v", now.State, now.Leases)
			}
			w.mustRun(root, "stop")
			w.waitAllEnded()
			w.checkNothingLeft(root)
		})
	}
}

// The supervisor keeps descriptors for the control socket and the state while clients use all others.
func TestLeases_FewDescriptorsAreEnoughToAnswer(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	root := w.allowedProject("linger = 0.1\n" + tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	w.waitKeeper(root)
	w.status(root)
	supervisor := w.supervisor(root)
	setDescriptorLimit(t, supervisor.PID, uint64(readResources(t, supervisor.PID).files)+8)
	w.mustRun(root, "exec", "--", "true") // makes the supervisor read its limit, as it does every second
	closeAll := openIdleConns(t, addr, 20)
	w.status(root)
	sh := w.shell("bash", root)
	if env := sh.Environ(); env["WEB_PORT"] != fmt.Sprint(port) {
		t.Errorf("WEB_PORT=%q; the shell shows %q", env["WEB_PORT"], sh.Screen())
	}
	if pids := w.leasePIDs(root, api.ShellLease); !slices.Equal(pids, []int{sh.PID()}) {
		t.Errorf("leases of %v, want that of %d", pids, sh.PID())
	}
	sh.Run("cd " + w.home)
	closeAll()
	w.mustRun(root, "stop")
	w.waitExit(supervisor)
	w.checkNothingLeft(root, addr)
}

// A supervisor without descriptors cannot check whether shells are alive; it must not drop their leases.
func TestLeases_NoneIsLostWithoutDescriptors(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject("linger = 0.1\n" + tcpConfig("web", "\"auto\"", serve(t, "127.0.0.1:0")))
	first, second := w.shell("bash", root), w.shell("bash", root)
	w.waitKeeper(root)
	w.status(root)
	supervisor, auto := w.supervisor(root), w.state(root).Ports["web"]
	setDescriptorLimit(t, supervisor.PID, 3)
	second.Kill() // makes the supervisor check the leases, at once and every second
	// It cannot tell whether second is alive, which is no reason to read the state; a changed file is one.
	if err := os.Chtimes(filepath.Join(w.stateDir(root), "state.json"), time.Time{}, time.Now()); err != nil {
		t.Fatal(err)
	}
	trouble := filepath.Join(w.stateDir(root), "log/supervisor.log")
	eventually(t, "the supervisor could not read the state", func() bool {
		log, err := os.ReadFile(trouble)
		return err == nil && strings.Contains(string(log), "cannot write the state")
	})
	setDescriptorLimit(t, supervisor.PID, 1024)
	eventually(t, "the leases are read again", func() bool { return slices.Equal(w.leasePIDs(root, api.ShellLease), []int{first.PID()}) })
	if now := w.supervisor(root); now != supervisor {
		t.Errorf("the supervisor is %+v, was %+v", now, supervisor)
	}
	if now := w.state(root).Ports["web"]; now != auto {
		t.Errorf("the port is %d, was %d", now, auto)
	}
	first.Run("cd " + w.home)
	w.waitExit(supervisor)
	w.checkNothingLeft(root)
}
