package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/shellpty"
)

// advanceClock returns a line that advances the clock of a shell's hook. fish's is the age of a directory.
func advanceClock(kind string, seconds int) string {
	if kind == "fish" {
		return fmt.Sprintf("set -g __localport_since (math $__localport_since - %d)", seconds)
	}
	return fmt.Sprintf("SECONDS=$((SECONDS + %d))", seconds)
}

// awaitRepetition waits until a shell has entered at a prompt that is due later and later. It returns what the prompts have printed: one whose
// export does not end within its 200 ms, as on a busy machine, prints nothing.
func awaitRepetition(t *testing.T, sh *shellpty.Shell, kind string) (printed string) {
	t.Helper()
	eventually(t, "the shell has entered", func() bool {
		sh.Run(advanceClock(kind, 60))
		printed += sh.Output()
		return sh.Environ()["WEB_PORT"] != ""
	})
	return printed
}

// startedProject starts a project with the service web and returns its root and a function that freezes its supervisor.
func startedProject(t *testing.T, w *testEnv) (root string, freeze func() (thaw func())) {
	t.Helper()
	root = w.allowedProject("linger = 0.1\n" + tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	w.waitKeeper(root)
	w.status(root)
	return root, func() func() {
		pid := w.supervisor(root).PID
		release := w.holdLock(root) // so that the supervisor is not stopped while it holds the lock
		defer release()
		w.stopProcess(pid)
		return func() { _ = syscall.Kill(pid, syscall.SIGCONT) }
	}
}

func TestPrompt_EntersWhenAFrozenSupervisorAnswersAgain(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnv(t)
		root, freeze := startedProject(t, w)
		w.env = append(w.env, "LOCALPORT_LIMIT=1s")
		sh := w.shell(kind, w.home)
		thaw := freeze()
		defer thaw()
		sh.Run("cd " + root)
		if out := sh.Output(); !strings.Contains(out, "did not answer within ") {
			t.Errorf("entering printed %q", out)
		}
		sh.Run("true") // the project's line has changed during the export
		checkPromptsRunNothing(t, sh)
		sh.Run(advanceClock(kind, 5)) // the first repetition is limited to 200 ms, and silent
		if out := sh.Output(); out != "" {
			t.Errorf("the repetition printed %q", out)
		}
		thaw()
		checkPromptsRunNothing(t, sh)
		if out := awaitRepetition(t, sh, kind); !strings.Contains(out, "web :") {
			t.Errorf("when it answers again, the prompt printed %q", out)
		}
		checkPromptsRunNothing(t, sh)
	})
}

// The port stays open meanwhile, and clients wait: a shell that has entered keeps its variables.
func TestPrompt_KeepsVariablesWhileASupervisorIsFrozen(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnv(t)
		root, freeze := startedProject(t, w)
		w.env = append(w.env, "LOCALPORT_LIMIT=1s")
		sh := w.shell(kind, root)
		port := sh.Environ()["WEB_PORT"]
		thaw := freeze()
		defer thaw()
		saved := time.Now().Add(time.Minute)
		if err := os.Chtimes(filepath.Join(root, ".localport.toml"), saved, saved); err != nil {
			t.Fatal(err)
		}
		sh.Run("true")
		if out := sh.Output(); !strings.Contains(out, "did not answer within 1s") {
			t.Errorf("the prompt printed %q", out)
		}
		if env := sh.Environ(); port == "" || env["WEB_PORT"] != port {
			t.Errorf("WEB_PORT=%q, and %q before", env["WEB_PORT"], port)
		}
		thaw()
		eventually(t, "the shell has entered again", func() bool {
			sh.Run(advanceClock(kind, 60))
			return len(w.leasePIDs(root, api.ShellLease)) == 1 && sh.Environ()["WEB_PORT"] == port
		})
		sh.Run("cd /")
		if env := sh.Environ(); hasVariable(env, "WEB_PORT") {
			t.Errorf("after leaving, WEB_PORT=%q", env["WEB_PORT"])
		}
	})
}

// As on a slow disk: the lock of the state is held.
func TestPrompt_EntersWhenTheStateIsFreeAgain(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnv(t)
		root := w.allowedProject("linger = 0.1\n" + tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
		w.mustRun(root, "status")
		w.env = append(w.env, "LOCALPORT_LIMIT=1s")
		sh := w.shell(kind, w.home)
		release := w.holdLock(root)
		sh.Run("cd " + root)
		if out := sh.Output(); strings.Count(out, "localport: ") != 1 {
			t.Errorf("entering printed %q", out)
		}
		sh.Run("true")
		checkPromptsRunNothing(t, sh)
		release()
		awaitRepetition(t, sh, kind)
		supervisor := w.supervisor(root)
		sh.Run("cd /")
		w.waitExit(supervisor)
		w.checkNothingLeft(root)
	})
}

// The interrupted export has taken a lease.
func TestPrompt_LeavesTheProjectOfAnInterruptedExport(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnv(t)
		root, freeze := startedProject(t, w)
		w.env = append(w.env, "LOCALPORT_LIMIT=20s")
		sh := w.shell(kind, w.home)
		thaw := freeze()
		defer thaw()
		sh.Type("cd " + root + "\r")
		eventually(t, "export has taken its lease", func() bool { return len(w.state(root).Leases) == 2 })
		sh.Type("\x03")
		sh.AwaitPrompt()
		thaw()
		sh.Run("cd /")
		if leases := w.state(root).Leases; len(leases) != 1 {
			t.Errorf("after leaving, the leases are %+v", leases)
		}
		checkPromptsRunNothing(t, sh)
	})
}
