package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/shellhook"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/sshd"
)

// hasSocket reports whether the socket that a project's supervisor has recorded exists.
func (w *testEnv) hasSocket(root string) bool {
	supervisor := w.state(root).Supervisor
	if supervisor == nil {
		return false
	}
	_, err := os.Stat(supervisor.Socket)
	return err == nil
}

// withShortRuntimeDir returns the same testEnv with a runtime directory of its own, whatever TMPDIR is: if paths of sockets would be too
// long, localport uses a directory that all tests share.
func (w *testEnv) withShortRuntimeDir() *testEnv {
	w.t.Helper()
	dir, err := os.MkdirTemp("/tmp", "lpr") //nolint:usetesting // t.TempDir is too long for the path of a socket
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	other := *w
	other.env = append(slices.Clip(other.env), "XDG_RUNTIME_DIR="+dir)
	return &other
}

// runtimeDir returns the runtime directory.
func (w *testEnv) runtimeDir() string {
	const name = "XDG_RUNTIME_DIR="
	for _, entry := range slices.Backward(w.env) {
		if dir, ok := strings.CutPrefix(entry, name); ok {
			return dir
		}
	}
	return ""
}

func TestGuard_RebindsTheControlSocket(t *testing.T) {
	for name, remove := range map[string]func(t *testing.T, w *testEnv, socket string){
		"socket": func(t *testing.T, _ *testEnv, socket string) {
			if err := os.Remove(socket); err != nil {
				t.Error(err)
			}
		},
		"runtime directory": func(t *testing.T, w *testEnv, _ string) {
			if err := os.RemoveAll(w.runtimeDir()); err != nil {
				t.Error(err)
			}
		},
		"runtime directory replaced by a file": func(t *testing.T, w *testEnv, _ string) {
			dir := filepath.Join(w.runtimeDir(), "localport")
			if err := os.RemoveAll(dir); err != nil {
				t.Error(err)
			}
			w.writeFile(filepath.Dir(dir), filepath.Base(dir), "")
			t.Cleanup(func() { os.Remove(dir) })
		},
		"another file in place of the socket": func(t *testing.T, _ *testEnv, socket string) {
			if err := os.Remove(socket); err != nil {
				t.Error(err)
			}
			if err := os.WriteFile(socket, nil, 0o600); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t).withShortRuntimeDir()
			port := ports.FreePort(t)
			addr := fmt.Sprintf("127.0.0.1:%d", port)
			root := w.allowedProject("linger = 0.1\n" + tcpConfig("web", port, serve(t, "127.0.0.1:0")))
			w.mustRun(root, "start")
			w.waitKeeper(root)
			supervisor, socket := w.supervisor(root), w.state(root).Supervisor.Socket
			before := inode(t, socket)
			remove(t, w, socket)
			removeTime := time.Now()
			eventually(t, "the socket is bound again", func() bool {
				now := w.state(root).Supervisor.Socket
				info, err := os.Stat(now)
				return err == nil && info.Mode()&os.ModeSocket != 0 && (now != socket || inode(t, now) != before)
			})
			t.Logf("bound again after %v", time.Since(removeTime))

			if now := w.supervisor(root); now != supervisor {
				t.Errorf("the supervisor is %+v, was %+v", now, supervisor)
			}
			w.status(root)
			sh := w.shell("bash", root)
			if env := sh.Environ(); env["WEB_PORT"] != fmt.Sprint(port) {
				t.Errorf("WEB_PORT=%q; the shell shows %q", env["WEB_PORT"], sh.Screen())
			}
			checkServed(t, addr)

			// The successor answers at the new socket too.
			kill(t, supervisor.PID)
			successor := w.waitSuccessor(root, supervisor)
			if pids := w.leasePIDs(root, api.ShellLease); len(pids) != 1 || pids[0] != sh.PID() {
				t.Errorf("leases of %v, want that of %d", pids, sh.PID())
			}
			newSocket := w.state(root).Supervisor.Socket
			sh.Run("cd " + w.home)
			w.mustRun(root, "stop")
			w.waitExit(successor)
			if _, err := os.Lstat(newSocket); err == nil {
				t.Errorf("%s is left", newSocket)
			}
			if !strings.HasSuffix(name, "by a file") {
				w.checkNothingLeft(root, addr)
			}
		})
	}
}

// The successor takes over a socket whose file was deleted.
func TestGuard_SuccessorRebindsADeletedSocket(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	w.waitKeeper(root)
	supervisor, socket := w.supervisor(root), w.state(root).Supervisor.Socket
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	kill(t, supervisor.PID)
	w.waitExit(supervisor)
	successor := w.waitSuccessor(root, supervisor)
	eventually(t, "the socket exists again", func() bool { return w.hasSocket(root) })
	w.status(root)
	if now := w.supervisor(root); now != successor {
		t.Errorf("the supervisor is %+v, was %+v", now, successor)
	}
	w.stopProject(root)
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

// The tunnels' private sockets are in the same directory as the control socket.
func TestGuard_TunnelsSurviveDeletedRuntimeDirectory(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	host, upstream, port := sshd.Start(t), serve(t, "127.0.0.1:0"), []int{ports.FreePort(t), ports.FreePort(t)}
	root := w.allowedProject(sshConfig("web", port[0], host, upstream.port) + sshConfig("api", port[1], host, upstream.port))
	w.mustRun(root, "start")
	web, api := fmt.Sprintf("127.0.0.1:%d", port[0]), fmt.Sprintf("127.0.0.1:%d", port[1])
	checkServed(t, web)
	eventually(t, "the runtime directory is removed", func() bool { // the supervisor may restore a part of it meanwhile
		return os.RemoveAll(filepath.Join(w.home, "runtime")) == nil
	})
	checkServed(t, web)
	checkServed(t, api)
	eventually(t, "the control socket exists again", func() bool { return w.hasSocket(root) })
	w.mustRun(root, "restart", "api")
	checkServed(t, api)
	w.mustRun(root, "restart")
	checkServed(t, web)
	checkServed(t, api)
	w.stopProject(root, web, api)
}

// deletions remove or damage files of a running project, given its state directory.
var deletions = map[string]func(dir string) error{
	"election":        func(dir string) error { return os.Remove(filepath.Join(dir, "election")) },
	"lock":            func(dir string) error { return os.Remove(filepath.Join(dir, "lock")) },
	"state":           func(dir string) error { return os.Remove(filepath.Join(dir, "state.json")) },
	"prompt":          func(dir string) error { return os.Remove(filepath.Join(dir, "prompt")) },
	"state directory": removeDirectory,
	"state home":      func(dir string) error { return removeDirectory(filepath.Dir(filepath.Dir(dir))) },
	"truncated state": func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "state.json"), []byte(`{"version":1,`), 0o600)
	},
	"empty state": func(dir string) error { return os.Truncate(filepath.Join(dir, "state.json"), 0) },
	"state of another project": func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "state.json"), []byte(`{"version":1,"id":"other","config":"/elsewhere"}`), 0o600)
	},
}

// removeDirectory removes a directory in which a supervisor may create a file meanwhile.
func removeDirectory(dir string) error {
	for {
		if err := os.RemoveAll(dir); !errors.Is(err, syscall.ENOTEMPTY) {
			return err
		}
	}
}

func TestGuard_ProjectSurvivesDeletedFiles(t *testing.T) {
	for name, remove := range deletions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t)
			root := w.allowedProject("linger = 0.1\n" + tcpConfig("web", "\"auto\"", serve(t, "127.0.0.1:0")))
			first := w.shell("bash", root)
			w.waitKeeper(root)
			supervisor, auto, dir := w.supervisor(root), w.state(root).Ports["web"], w.stateDir(root)
			addr := fmt.Sprintf("127.0.0.1:%d", auto)
			conn := dial(t, addr)
			conn.exchangeLine("hi")
			if err := remove(dir); err != nil {
				t.Fatal(err)
			}
			// A prompt and a command enter right after the deletion.
			pid := fmt.Sprint(os.Getpid())
			enteredCh := make(chan commandResult, 2)
			for _, args := range [][]string{{"export", "bash", "--pid", pid}, {"exec", "--", "true"}} {
				cmd := w.command(root, args...)
				go func() {
					out, err := cmd.CombinedOutput()
					enteredCh <- commandResult{stdout: string(out), stderr: fmt.Sprint(err), code: cmd.ProcessState.ExitCode()}
				}()
			}
			for range 2 {
				if o := <-enteredCh; o.code != 0 {
					t.Errorf("entering: exit %d, %s\n%s", o.code, o.stderr, o.stdout)
				}
			}
			eventually(t, "the state is written again", func() bool {
				state := w.state(root)
				isRestored := state.Supervisor != nil && state.Supervisor.Process == supervisor && state.Ports["web"] == auto
				return isRestored && len(state.Leases) == 2 && len(w.leasePIDs(root, api.ShellLease)) == 2 // the lease of exec may be written again, too
			})
			eventually(t, "the election's file exists again", func() bool { _, err := os.Stat(filepath.Join(dir, "election")); return err == nil })
			if all := findSupervisors(t, root); len(all) != 1 || all[0] != supervisor {
				t.Errorf("supervisors: %v, want %v alone", all, supervisor)
			}
			if got := conn.exchangeLine("still there?"); got != "hello still there?\n" {
				t.Errorf("the established connection answers %q", got)
			}
			second := w.shell("bash", root)
			if env := second.Environ(); env["WEB_PORT"] != fmt.Sprint(auto) {
				t.Errorf("WEB_PORT=%q, want %d; the shell shows %q", env["WEB_PORT"], auto, second.Screen())
			}

			// A successor has everything too.
			kill(t, supervisor.PID)
			successor := w.waitSuccessor(root, supervisor)
			checkServed(t, addr)
			if o := w.localport("/", "export", "bash", "--pid", pid, "--root", root); o.code != 0 {
				t.Errorf("leaving: exit %d, %s", o.code, o.stderr)
			}
			first.Kill()
			second.Run("cd " + w.home)
			w.waitExit(successor)
			w.checkNothingLeft(root, addr)
		})
	}
}

// If a file of a running project is replaced by something else, commands fail with its path and what to do, or work. When it is removed,
// they work again, and no connection or lease is lost.
func TestGuard_ReplacedFileIsAnErrorUntilItIsRemoved(t *testing.T) {
	replacements := map[string]func(path string) error{
		"named pipe": func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"directory":  func(path string) error { return os.Mkdir(path, 0o700) },
		"link loop":  func(path string) error { return os.Symlink(filepath.Base(path), path) },
	}
	for kind, replace := range replacements {
		for _, file := range []string{"lock", "state.json", "election"} {
			t.Run(file+" is a "+kind, func(t *testing.T) {
				t.Parallel()
				w := newTestEnv(t)
				root := w.allowedProject("linger = 0.1\n" + tcpConfig("web", "\"auto\"", serve(t, "127.0.0.1:0")))
				sh := w.shell("bash", root)
				w.waitKeeper(root)
				supervisor, auto := w.supervisor(root), w.state(root).Ports["web"]
				path := filepath.Join(w.stateDir(root), file)
				addr := fmt.Sprintf("127.0.0.1:%d", auto)
				conn := dial(t, addr)
				conn.exchangeLine("hi")
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				if err := replace(path); err != nil && !os.IsExist(err) { // the supervisor may have written the file first
					t.Fatal(err)
				}
				checkSucceedsOrNamesFile := func(args ...string) {
					t.Helper()
					o := w.localport(root, args...)
					if o.code != 0 && (!strings.Contains(o.stderr, path) || !strings.Contains(o.stderr, "remove it")) {
						t.Errorf("%v: exit %d, %s", args, o.code, o.stderr)
					}
				}
				checkSucceedsOrNamesFile("status")
				checkSucceedsOrNamesFile("exec", "--", "true")
				checkSucceedsOrNamesFile("export", "bash", "--pid", fmt.Sprint(sh.PID()))
				if got := conn.exchangeLine("still there?"); got != "hello still there?\n" {
					t.Errorf("the established connection answers %q", got)
				}
				checkSucceedsOrNamesFile("stop", "web")
				checkSucceedsOrNamesFile("start", "web")
				if err := os.RemoveAll(path); err != nil { // as the error says
					t.Fatal(err)
				}
				eventually(t, "the state is written again", func() bool {
					state := w.state(root)
					return state.Supervisor != nil && state.Supervisor.Process == supervisor && state.Ports["web"] == auto &&
						slices.Equal(w.leasePIDs(root, api.ShellLease), []int{sh.PID()})
				})
				w.mustRun(root, "exec", "--", "true")
				checkServed(t, addr)
				if all := findSupervisors(t, root); len(all) != 1 || all[0] != supervisor {
					t.Errorf("supervisors: %v, want %v alone", all, supervisor)
				}
				sh.Run("cd " + w.home)
				w.mustRun(root, "stop") // releases the lease of start web
				w.waitExit(supervisor)
				w.checkNothingLeft(root, addr)
			})
		}
	}
}

// A backup, or a tool that synchronises files, may restore an older state.
func TestGuard_OlderCopyOfTheStateLosesNoLease(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject("linger = 0.1\n" + tcpConfig("web", "\"auto\"", serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	w.waitKeeper(root)
	supervisor := w.supervisor(root)
	path := filepath.Join(w.stateDir(root), "state.json")
	older, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	w.mustRun(root, "stop", "web")
	w.mustRun(root, "start", "web")
	sh := w.shell("bash", root)
	w.status(root)
	if err := os.WriteFile(path, older, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the shell's lease is written again", func() bool {
		for _, lease := range w.state(root).Leases {
			if lease.Kind == lockstate.ShellLease && lease.PID == sh.PID() {
				return true
			}
		}
		return false
	})
	sh.Run("cd " + w.home)
	w.mustRun(root, "stop")
	w.waitExit(supervisor)
	w.checkNothingLeft(root)
}

func TestGuard_StopsWithTheProjectsDirectory(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	root := w.allowedProject(tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	w.waitKeeper(root)
	dir := w.stateDir(root)
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	w.waitAllEnded()
	w.checkNothingLeft(root, fmt.Sprintf("127.0.0.1:%d", port))
	log, err := os.ReadFile(filepath.Join(dir, "log/supervisor.log"))
	if err != nil || !strings.Contains(string(log), "the project's directory is gone") {
		t.Errorf("the log (%v):\n%s", err, log)
	}
}

// If its keeper is killed at the wrong moment, a supervisor that starts and the one that it replaces both have the ports. The state shows
// which of them continues.
func TestGuard_OnlyTheRecordedSupervisorContinues(t *testing.T) {
	t.Parallel()
	other := exec.Command("cat") // in place of the other supervisor
	stdin, err := other.StdinPipe()
	if err == nil {
		err = other.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	process, _ := lockstate.FindProcess(other.Process.Pid)
	w := newTestEnv(t)
	port := ports.FreePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	root := w.allowedProject(tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	w.waitKeeper(root)
	supervisor := w.supervisor(root)

	record := func(p lockstate.Process) {
		state := w.state(root)
		state.Supervisor.Process = p
		data, err := json.Marshal(state)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(w.stateDir(root), "state.json")
		if err := os.WriteFile(path+".test", data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".test", path); err != nil {
			t.Fatal(err)
		}
	}
	record(lockstate.Process{PID: process.PID, Start: process.Start + 1}) // it has ended
	eventually(t, "the supervisor records itself again", func() bool { return w.state(root).Supervisor.Process == supervisor })
	conn := dial(t, addr)
	conn.exchangeLine("hi")
	record(process)
	eventually(t, "the port is closed", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	if got := conn.exchangeLine("still there?"); got != "hello still there?\n" {
		t.Errorf("the established connection answers %q", got)
	}
	stdin.Close()
	_ = other.Wait()
	w.waitExit(supervisor) // with the other one
	w.mustRun(root, "exec", "--", "true")
	checkServed(t, addr)
	w.stopProject(root, addr)
}

// leasePIDs returns the pids of the leases of a kind, according to the supervisor.
func (w *testEnv) leasePIDs(root, kind string) (pids []int) {
	w.t.Helper()
	for _, lease := range w.status(root).Leases {
		if lease.Kind == kind {
			pids = append(pids, lease.PID)
		}
	}
	return pids
}

// The supervisor's files are also checked at the half minute: here, the event of the removal has them restored.
func TestGuard_RestoresEachFileSoonAfterItsRemoval(t *testing.T) {
	t.Parallel()
	const limit = 15 * time.Second // a second, on a machine that does much else
	w := newTestEnv(t).withShortRuntimeDir()
	root := w.allowedProject(tcpConfig("web", "\"auto\"", serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	w.waitKeeper(root)
	supervisor, state := w.supervisor(root), w.stateDir(root)
	exists := func(path string) bool {
		_, err := os.Lstat(path)
		return err == nil
	}
	for _, c := range []struct {
		name   string
		remove func() error
	}{
		{"the socket", func() error { return os.Remove(w.state(root).Supervisor.Socket) }},
		{"the runtime directory", func() error { return os.RemoveAll(filepath.Dir(w.state(root).Supervisor.Socket)) }},
		{"the state", func() error { return os.Remove(filepath.Join(state, "state.json")) }},
		{"the prompt's line", func() error { return os.Remove(filepath.Join(state, shellhook.PromptFile)) }},
		{"the election", func() error { return os.Remove(filepath.Join(state, "election")) }},
		{"the state directory", func() error { return os.RemoveAll(state) }},
		{"the directory above it", func() error { return os.Rename(filepath.Dir(state), filepath.Dir(state)+".away") }},
		{"the socket, once more", func() error { return os.Remove(w.state(root).Supervisor.Socket) }},
	} {
		// A directory may be restored while it is removed: its files were removed then.
		if err := c.remove(); err != nil && !errors.Is(err, syscall.ENOTEMPTY) {
			t.Fatalf("%s: %v", c.name, err)
		}
		removedAt := time.Now()
		eventually(t, c.name+" is restored", func() bool {
			for _, name := range []string{"state.json", shellhook.PromptFile, "election"} {
				if !exists(filepath.Join(state, name)) {
					return false
				}
			}
			return w.hasSocket(root) && w.supervisor(root) == supervisor
		})
		if took := time.Since(removedAt); took > limit {
			t.Errorf("%s was restored after %v", c.name, took)
		} else {
			t.Logf("%s was restored after %v", c.name, took)
		}
	}
	w.mustRun(root, "stop")
	w.waitExit(supervisor)
}

// The project's directory is also looked at each half minute, and the grace begins when it is first found to be missing.
func TestGuard_EndsSoonAfterTheProjectIsRemoved(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", "\"auto\"", serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	w.waitKeeper(root)
	supervisor := w.supervisor(root)
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	removedAt := time.Now()
	w.waitExit(supervisor)
	if took := time.Since(removedAt); took > 25*time.Second {
		t.Errorf("the supervisor ended after %v", took)
	}
}
