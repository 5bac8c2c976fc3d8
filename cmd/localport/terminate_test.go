package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/testdata/ports"
)

func sendTerm(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

// waitSuccessor waits until a supervisor other than before is recorded and running.
func (w *testEnv) waitSuccessor(root string, before lockstate.Process) lockstate.Process {
	w.t.Helper()
	var now lockstate.Process
	eventually(w.t, "another supervisor runs", func() bool {
		state := w.state(root).Supervisor
		if state == nil || state.Process == before || !state.IsAlive() {
			return false
		}
		now = state.Process
		return true
	})
	return now
}

// waitAllEnded waits until no supervisor or keeper is left.
func (w *testEnv) waitAllEnded() {
	w.t.Helper()
	eventually(w.t, "every process has ended", func() bool { return len(w.processes()) == 0 })
}

func TestTerminatedSupervisor_HandsOverWithLeases(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	root := w.allowedProject("linger = 0.1\n" + tcpConfig("web", port, serve(t, "127.0.0.1:0")) + tcpConfig("own", "\"auto\"", serve(t, "127.0.0.1:0")))
	sh := w.shell("bash", root)
	w.waitKeeper(root)
	before, auto := w.supervisor(root), w.state(root).Ports
	c := startGreetingClients(50*time.Millisecond, addr)
	eventually(t, "clients are served", func() bool { return c.countAnswered(c.startTime) > 3 })

	sendTerm(t, before.PID)
	termTime := time.Now()
	w.waitExit(before)
	after := w.waitSuccessor(root, before)
	replaceTime := time.Now()
	eventually(t, "clients are served again", func() bool { return c.countAnswered(replaceTime) > 3 })
	calls := c.stop()
	if refused, failed := countRefused(calls, termTime); refused > 0 || failed > 0 {
		// Connections established before the signal may be cut off, later ones not.
		t.Errorf("%d of %d refused, %d failed after the signal: %v", refused, len(calls), failed, describeFailures(calls))
	}
	if pids := w.leasePIDs(root, api.ShellLease); !slices.Equal(pids, []int{sh.PID()}) {
		t.Errorf("leases of %v, want that of %d", pids, sh.PID())
	}
	if now := w.state(root); fmt.Sprint(now.Ports) != fmt.Sprint(auto) || now.Down {
		t.Errorf("ports %v, were %v; down: %v", now.Ports, auto, now.Down)
	}
	sh.Run("cd " + w.home)
	w.waitExit(after)
	w.checkNothingLeft(root, addr)
}

func TestTerminatedSupervisor_ResetsEstablishedConnections(t *testing.T) {
	for _, technology := range []string{"tcp", "command"} {
		t.Run(technology, func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t)
			port := ports.FreePort(t)
			config := tcpConfig("web", port, serve(t, "127.0.0.1:0"))
			if technology == "command" {
				config = commandConfig(t, "web", port)
			}
			root := w.allowedProject(config)
			w.mustRun(root, "start")
			w.waitKeeper(root)
			before := w.supervisor(root)
			conn := dial(t, fmt.Sprintf("127.0.0.1:%d", port))
			conn.exchangeLine("hi")
			sendTerm(t, before.PID)
			w.waitExit(before)
			_ = conn.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := conn.conn.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
				t.Errorf("the connection ended with %v, want a reset", err)
			}
			w.waitSuccessor(root, before)
			w.stopProject(root)
		})
	}
}

// keeperTermTimeout is less than the time within which a supervisor that gets SIGTERM counts its keeper's as part of the same end: 500 ms.
const keeperTermTimeout = 300 * time.Millisecond

func TestTerminatedSupervisor_ShutsDownGracefullyWithItsKeeper(t *testing.T) {
	for name, keeperFirst := range map[string]bool{"keeper first": true, "keeper second": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t)
			port := ports.FreePort(t)
			root := w.allowedProject(tcpConfig("web", port, serve(t, "127.0.0.1:0")))
			for {
				w.mustRun(root, "start")
				pids := []int{w.supervisor(root).PID, w.waitKeeper(root)}
				if keeperFirst {
					slices.Reverse(pids)
				}
				firstAt := time.Now()
				sendTerm(t, pids[0])
				if keeperFirst { // the second signal comes when there is another keeper
					w.waitKeeper(root, pids[0], 0)
				}
				sendTerm(t, pids[1])
				if time.Since(firstAt) < keeperTermTimeout {
					break
				}
				w.mustRun(root, "stop") // on a busy machine the second signal came too late to count as one with the first
			}
			w.waitAllEnded()
			w.checkNothingLeft(root, fmt.Sprintf("127.0.0.1:%d", port))
			if !w.state(root).Down {
				t.Error("the project is not down")
			}
		})
	}
}

func TestTerminatedSupervisor_ShutsDownGracefullyIfItsSuccessorIsTerminated(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	root := w.allowedProject(tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	w.waitKeeper(root)
	before := w.supervisor(root)
	sendTerm(t, before.PID)
	sendTerm(t, w.waitSuccessor(root, before).PID)
	w.waitAllEnded()
	w.checkNothingLeft(root, fmt.Sprintf("127.0.0.1:%d", port))
	if !w.state(root).Down {
		t.Error("the project is not down")
	}
}

func TestTerminatedSupervisor_WithoutLeasesIsNotReplaced(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	root := w.allowedProject("linger = \"10m\"\n" + tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	w.mustRun(root, "exec", "--", "true")
	w.waitKeeper(root)
	before := w.supervisor(root)
	sendTerm(t, before.PID)
	w.waitExit(before)
	w.waitAllEnded()
	w.checkNothingLeft(root, fmt.Sprintf("127.0.0.1:%d", port))
	if state := w.state(root); state.Down || state.Supervisor != nil {
		t.Errorf("down: %v, supervisor: %+v", state.Down, state.Supervisor)
	}
}

// After a SIGTERM, a keeper no longer replaces its supervisor.
func TestTerminatedKeeper_ReplacesNoSupervisor(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	keeper, supervisor := w.waitKeeper(root), w.supervisor(root)
	w.stopProcess(keeper) // so that it gets both signals at once
	sendTerm(t, keeper)
	kill(t, supervisor.PID)
	w.waitExit(supervisor)
	_ = syscall.Kill(keeper, syscall.SIGCONT)
	w.waitAllEnded()
	w.mustRun(root, "exec", "--", "true") // the next command starts a supervisor
	w.stopProject(root)
}
