package main

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/testdata/ports"
)

func TestKeeper_TellsHowASupervisorDied(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	w.waitKeeper(root)
	if out := w.mustRun(root, "status"); strings.Contains(out, "previous supervisor") {
		t.Errorf("status of the first supervisor: %s", out)
	}
	for _, death := range []struct {
		signal syscall.Signal
		reason string
	}{
		{syscall.SIGKILL, "killed by SIGKILL"},
		{syscall.SIGABRT, "exit status 2: SIGABRT: abort"}, // the Go runtime's exit
		{syscall.SIGSEGV, "exit status 2: SIGSEGV: segmentation violation"},
		{syscall.SIGTERM, "signal: terminated"},
	} {
		before := w.state(root).Supervisor
		if err := syscall.Kill(before.PID, death.signal); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the next supervisor runs", func() bool {
			now := w.state(root).Supervisor
			return now != nil && now.Run != before.Run && now.IsAlive()
		})
		eventually(t, "the end is in the events", func() bool {
			return slices.ContainsFunc(w.events(root, eventlog.SupervisorEnded), func(e eventlog.Event) bool { return e.Run == before.Run })
		})
		var reasons []string
		for _, event := range w.events(root, eventlog.SupervisorEnded) {
			if event.Run == before.Run {
				reasons = append(reasons, event.Reason)
			}
		}
		if !slices.Equal(reasons, []string{death.reason}) {
			t.Errorf("after %v the events say %q", death.signal, reasons)
		}
		isTold := strings.Contains(w.mustRun(root, "status"), ": "+death.reason+"\n")
		if isToldAgain := strings.Contains(w.mustRun(root, "status"), death.reason); isTold != (death.signal != syscall.SIGTERM) || isToldAgain {
			t.Errorf("after %v status tells the reason: %t, and again: %t", death.signal, isTold, isToldAgain)
		}
	}
	w.stopProject(root)
}

// TestCommand_TellsThatASupervisorDiedWithItsKeeper is about what nobody has seen: the log knows a crash, and nothing else is said.
func TestCommand_TellsThatASupervisorDiedWithItsKeeper(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	for signal, reason := range map[syscall.Signal]string{syscall.SIGKILL: "the reason is not known", syscall.SIGABRT: "SIGABRT: abort"} {
		w.mustRun(root, "start")
		keeper, supervisor := w.waitKeeper(root), w.supervisor(root)
		_ = syscall.Kill(keeper, syscall.SIGSTOP) // so that it does not start another supervisor
		_ = syscall.Kill(supervisor.PID, signal)
		w.waitExit(supervisor)
		kill(t, keeper)
		eventually(t, "both have ended", func() bool { return len(w.processes()) == 0 })
		if out := w.mustRun(root, "start"); strings.Contains(out, "previous") {
			t.Errorf("start prints %s", out)
		}
		if out := w.mustRun(root, "status"); !strings.Contains(out, reason) {
			t.Errorf("after %v status prints %s", signal, out)
		}
	}
	w.stopProject(root)
}
