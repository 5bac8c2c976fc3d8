package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/handoff"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/testdata/ports"
)

var shells = []string{"bash", "zsh", "fish"}

// otherShells have hooks that can do less; the tests that they share with the shells above name them.
var otherShells = []string{"tcsh", "elvish", "nu"}

// eachShell runs a test in parallel for each shell, and for others.
func eachShell(t *testing.T, test func(t *testing.T, kind string), others ...string) {
	for _, kind := range slices.Concat(shells, others) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			test(t, kind)
		})
	}
}

func TestShell_CdStartsAndStopsForwards(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnv(t)
		upstream := serve(t, "127.0.0.1:0")
		port := ports.FreePort(t)
		root := w.allowedProject("linger = \"0.2s\"\n" + tcpConfig("my-db", port, upstream) +
			"[env]\nURL = \"tcp://${my-db.addr}\"\n")
		if err := os.MkdirAll(filepath.Join(root, "a/b"), 0o755); err != nil {
			t.Fatal(err)
		}
		sh := w.shell(kind, w.home)
		set := map[string]string{"bash": "export URL=mine", "zsh": "export URL=mine", "fish": "set -gx URL mine", "tcsh": "setenv URL mine", "elvish": "set-env URL mine", "nu": "$env.URL = 'mine'"}[kind]
		sh.Run(set)
		before := sh.Environ()

		sh.Run("cd " + root + "/a/b")
		if out := sh.Output(); strings.Count(out, "localport:") != 1 || !strings.Contains(out, fmt.Sprintf("my-db :%d", port)) {
			t.Errorf("entering printed %q, want one line with the service and its port", out)
		}
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		if answer, err := ask(addr, "you"); answer != "hello you\n" {
			t.Errorf("through the forward: %q, %v", answer, err)
		}
		if answer, err := ask(fmt.Sprintf("[::1]:%d", port), "you"); answer != "hello you\n" {
			t.Errorf("through ::1: %q, %v", answer, err)
		}
		env := sh.Environ()
		if env["MY_DB_HOST"] != "127.0.0.1" || env["MY_DB_PORT"] != fmt.Sprint(port) || env["URL"] != "tcp://"+addr {
			t.Errorf("inside: MY_DB_HOST=%q MY_DB_PORT=%q URL=%q", env["MY_DB_HOST"], env["MY_DB_PORT"], env["URL"])
		}
		supervisor := w.supervisor(root)
		sh.Run("cd ..")
		if out := sh.Output(); strings.Contains(out, "localport") {
			t.Errorf("a cd inside the project printed %q", out)
		}

		sh.Run("cd " + w.home)
		after := sh.Environ()
		for _, name := range []string{"MY_DB_HOST", "MY_DB_PORT", "URL", "LOCALPORT_DIFF"} {
			if was, had := before[name]; after[name] != was || had != hasVariable(after, name) {
				t.Errorf("after leaving %s is %q, was %q", name, after[name], was)
			}
		}
		w.waitExit(supervisor)
		w.checkNothingLeft(root, addr)
	}, otherShells...)
}

func hasVariable(env map[string]string, name string) bool { _, ok := env[name]; return ok }

// checkNothingLeft checks that a stopped project has left no listener, no socket, and no supervisor or lease in its state.
func (w *testEnv) checkNothingLeft(root string, addrs ...string) {
	w.t.Helper()
	for _, addr := range addrs {
		if conn, err := net.Dial("tcp", addr); err == nil {
			w.t.Errorf("something still listens on %s", addr)
			conn.Close()
		}
	}
	left, _ := filepath.Glob(filepath.Join(w.runtimeDir(), "localport/*"))
	if len(left) > 0 {
		w.t.Errorf("left behind: %v", left)
	}
	if state := w.state(root); state.Supervisor != nil || len(state.Leases) > 0 {
		w.t.Errorf("the state still holds a supervisor %+v and leases %+v", state.Supervisor, state.Leases)
	}
}

func TestShell_KilledShellStopsItsForwards(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnv(t)
		port := ports.FreePort(t)
		root := w.allowedProject("linger = 0.1\n" + commandConfig(t, "web", port))
		sh := w.shell(kind, root)
		supervisor := w.supervisor(root)
		if answer, err := ask(fmt.Sprintf("127.0.0.1:%d", port), "you"); answer != "hello you\n" {
			t.Fatalf("through the forward: %q, %v", answer, err)
		}
		sh.Kill()
		w.waitExit(supervisor)
		w.checkNothingLeft(root, fmt.Sprintf("127.0.0.1:%d", port))
	}, otherShells...)
}

func TestShell_LastOneToLeaveStopsTheProject(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject("linger = 0.1\n" + tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	first, second, third := w.shell("bash", root), w.shell("zsh", root), w.shell("fish", root)
	supervisor := w.supervisor(root)
	eventually(t, "the three leases are written", func() bool { return len(w.state(root).Leases) == 3 })
	first.Exit("exit")
	second.Hangup()
	eventually(t, "one lease is left", func() bool { return len(w.state(root).Leases) == 1 })
	if !supervisor.IsAlive() {
		t.Fatal("the supervisor ended while a shell was inside")
	}
	third.Run("cd /")
	w.waitExit(supervisor)
	w.checkNothingLeft(root)
}

func TestPrompt_ReplacesAKilledSupervisor(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnv(t)
		port := ports.FreePort(t)
		root := w.allowedProject(commandConfig(t, "web", port))
		sh := w.shell(kind, root)
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		if answer, err := ask(addr, "you"); answer != "hello you\n" {
			t.Fatalf("through the forward: %q, %v", answer, err)
		}
		supervisor := w.supervisor(root)
		children := findChildren(t, supervisor.PID)
		if len(children) == 0 {
			t.Fatal("the supervisor has no child")
		}
		if err := syscall.Kill(supervisor.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		w.waitExit(supervisor)
		for _, child := range children {
			w.waitExit(child)
		}
		sh.Run("true")
		if now := w.supervisor(root); now == supervisor {
			t.Error("the killed supervisor was not replaced")
		}
		if answer, err := ask(addr, "again"); answer != "hello again\n" {
			t.Errorf("after the prompt: %q, %v", answer, err)
		}
		if env := sh.Environ(); env["WEB_PORT"] != fmt.Sprint(port) {
			t.Errorf("WEB_PORT=%q", env["WEB_PORT"])
		}
	}, otherShells...)
}

// findChildren returns the children of a process, except a keeper.
func findChildren(t testing.TB, pid int) []lockstate.Process {
	t.Helper()
	paths, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var children []lockstate.Process
	for _, path := range paths {
		data, _ := os.ReadFile(path)
		for field := range strings.FieldsSeq(string(data)) {
			var child int
			if _, err := fmt.Sscan(field, &child); err == nil {
				if p, ok := lockstate.FindProcess(child); ok && !isKeeper(child) {
					children = append(children, p)
				}
			}
		}
	}
	return children
}

func TestPrompt_InAnUnchangedDirectoryRunsNothing(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnv(t)
		root := w.allowedProject(tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
		sh := w.shell(kind, root)
		eventually(t, "the service is healthy", func() bool { return w.service(root, "web").State == forwarder.Healthy })
		sh.Run("true") // it may still report the start
		line := w.state(root).Line
		before := reapedChildFaults(t, sh.PID())
		for range 20 {
			sh.Run("true")
		}
		if after := reapedChildFaults(t, sh.PID()); after != before {
			t.Errorf("the shell has started processes: the faults of its children were %d and are %d", before, after)
		}
		if now := w.state(root).Line; now != line {
			t.Errorf("the prompt's line has changed from %d to %d", line, now)
		}
	})
}

// reapedChildFaults returns the number of page faults of the children that a process has reaped. It grows with each child.
func reapedChildFaults(t *testing.T, pid int) (faults uint64) {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(data[strings.LastIndex(string(data), ")")+1:]))
	if _, err := fmt.Sscan(fields[8], &faults); err != nil { // cminflt, field 11
		t.Fatal(err)
	}
	return faults
}

func TestPrompt_DoesNotHangOnAStuckSupervisor(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	w.waitKeeper(root)
	w.status(root)
	eventually(t, "the service's address is recorded", func() bool {
		services := w.state(root).Supervisor.Services
		return len(services) == 1 && services[0].Held
	})
	supervisor := w.stopSupervisor(root)
	w.env = append(w.env, "LOCALPORT_LIMIT=2s")
	sh := w.shell("bash", w.home) // its methods fail the test if a prompt hangs
	sh.Run("cd " + root)
	if out := sh.Output(); !strings.Contains(out, fmt.Sprintf("the supervisor (pid %d) did not answer within ", supervisor.PID)) || !strings.Contains(out, `s; run "localport daemon restart"`) || strings.Count(out, "localport:") != 1 {
		t.Errorf("printed %q", out)
	}
	sh.Run("true")
	if out := sh.Output(); strings.Contains(out, "localport") {
		t.Errorf("the next prompt printed %q", out)
	}
	if err := syscall.Kill(supervisor.PID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// A prompt that times out has not seen what changed meanwhile; the next one must evaluate again.
func TestPrompt_AfterATimeoutReevaluatesChanges(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	w.waitKeeper(root)
	w.status(root)
	supervisor := w.stopSupervisor(root)
	cmd := w.command(root, "export", "bash", "--pid", fmt.Sprint(os.Getpid()), "--limit", "2s")
	outputCh := make(chan string, 1)
	go func() {
		out, _ := cmd.Output()
		outputCh <- string(out)
	}()
	eventually(t, "export has taken its lease", func() bool { return len(w.state(root).Leases) == 2 })
	path := filepath.Join(w.stateDir(root), "prompt")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	number, rest, _ := strings.Cut(string(before), " ")
	next, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, fmt.Appendf(nil, "%d %s", next+1, rest), 0o600); err != nil {
		t.Fatal(err)
	}
	out := <-outputCh
	if !strings.Contains(out, "__localport_line=") || strings.Contains(out, fmt.Sprintf("%d %s", next+1, strings.TrimSpace(rest))) {
		t.Errorf("the line became %d during the export, which printed\n%s", next+1, out)
	}
	if err := syscall.Kill(supervisor.PID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

func TestShell_NestedShellInheritsAndRestores(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	outer := w.shell("bash", root)
	env := outer.Environ()
	inherited := []string{"LOCALPORT_DIFF=" + env["LOCALPORT_DIFF"], "WEB_PORT=" + env["WEB_PORT"], "WEB_HOST=" + env["WEB_HOST"]}
	w.env = append(w.env, inherited...)
	inner := w.shell("zsh", w.home) // such as a new window of a terminal multiplexer
	if env := inner.Environ(); hasVariable(env, "WEB_PORT") || hasVariable(env, "LOCALPORT_DIFF") {
		t.Errorf("a nested shell outside the project kept WEB_PORT=%q", env["WEB_PORT"])
	}
	if env := outer.Environ(); !hasVariable(env, "WEB_PORT") {
		t.Error("the outer shell lost its variables")
	}
}

// isKeeper reports whether a process is a keeper.
func isKeeper(pid int) bool {
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && bytes.HasSuffix(args, []byte("\x00"+handoff.Arg+"\x00"))
}

// A file that was saved without a change, or a git checkout: the prompt that sees it is the only one that starts a process.
func TestPrompt_ASavedFileCostsOneProcess(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnv(t)
		root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
		w.mustRun(root, "start")
		sh := w.shell(kind, root)
		config, saved := filepath.Join(root, ".localport.toml"), time.Now()
		save := func() {
			saved = saved.Add(time.Minute)
			if err := os.Chtimes(config, saved, saved); err != nil {
				t.Fatal(err)
			}
		}
		sh.Run("true") // it may begin while the project does
		for range 3 {
			save()
			before := reapedChildFaults(t, sh.PID())
			sh.Run("true")
			if reapedChildFaults(t, sh.PID()) == before {
				t.Error("the prompt has not noticed the saved file")
			}
			checkPromptsRunNothing(t, sh)
		}
		w.mustRun(root, "stop")
		sh.Run("true")
		checkPromptsRunNothing(t, sh)
		save()
		sh.Run("true") // the project stays down
		checkPromptsRunNothing(t, sh)
	})
}
