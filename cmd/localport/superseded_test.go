package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/testdata/ports"
)

// supersede freezes the project's supervisor and deletes its election and socket, so that another one is elected. resume thaws it.
func (w *testEnv) supersede(t *testing.T, root string) (elected lockstate.Process, resume func()) {
	t.Helper()
	before := w.supervisor(root)
	release := w.holdLock(root) // so that the supervisor is not stopped while it holds the lock
	w.stopProcess(before.PID)
	release()
	for _, path := range []string{filepath.Join(w.stateDir(root), "election"), w.state(root).Supervisor.Socket} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	w.mustRun(root, "start", "--no-wait")
	elected = w.supervisor(root)
	if elected == before {
		t.Fatal("no other supervisor was elected")
	}
	return elected, func() { _ = syscall.Kill(before.PID, syscall.SIGCONT) }
}

func TestSupersededSupervisor_HandsOverPortsAndDrains(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	upstream, port := serve(t, "127.0.0.1:0"), []int{ports.FreePort(t), ports.FreePort(t)}
	root := w.allowedProject("linger = 0.1\n" + tcpConfig("web", port[0], upstream) + commandConfig(t, "own", port[1]) + tcpConfig("auto", `"auto"`, upstream))
	web, own := fmt.Sprintf("127.0.0.1:%d", port[0]), fmt.Sprintf("127.0.0.1:%d", port[1])
	sh := w.shell("bash", root)
	w.mustRun(root, "start")
	first, keeper := w.supervisor(root), w.waitKeeper(root)
	keeping, _ := lockstate.FindProcess(keeper)
	auto := w.service(root, "auto").Address
	established := []*connection{dial(t, web), dial(t, own), dial(t, auto)}
	for _, conn := range established {
		conn.exchangeLine("hi")
	}
	c := startGreetingClients(clientInterval, web)
	startTime := time.Now()
	eventually(t, "clients are answered", func() bool { return c.answered(startTime) > 20 })

	elected, resume := w.supersede(t, root)
	resume()
	eventually(t, "the other supervisor has the ports", func() bool {
		return !slices.ContainsFunc(w.status(root).Services, func(svc api.ServiceStatus) bool { return !svc.Held || !svc.State.IsReady() })
	})
	handoverTime := time.Now()
	eventually(t, "clients are answered again", func() bool { return c.answered(handoverTime) > 20 })
	calls := c.stop()
	if refused, failed := countRefused(calls, startTime); refused > 0 || failed > 0 {
		t.Errorf("%d of %d refused, %d failed", refused, len(calls), failed)
	}
	if now := w.supervisor(root); now != elected {
		t.Errorf("the supervisor is %+v, want %+v", now, elected)
	}
	if now := w.service(root, "auto").Address; now != auto {
		t.Errorf("auto is at %s, was at %s", now, auto)
	}
	if pids := w.leasePIDs(root, api.ShellLease); !slices.Equal(pids, []int{sh.PID()}) {
		t.Errorf("leases of %v, want that of %d", pids, sh.PID())
	}
	for _, addr := range []string{web, own, auto} {
		checkServed(t, addr)
	}

	// Established connections continue, and so does the old supervisor until they have ended.
	for _, conn := range established {
		if got := conn.exchangeLine("still there?"); got != "hello still there?\n" {
			t.Errorf("an established connection answers %q", got)
		}
		if !first.IsAlive() {
			t.Fatal("the superseded supervisor ended before its connections")
		}
		conn.conn.Close()
	}
	w.waitExit(first)
	w.waitExit(keeping) // it has waited for its supervisor, to clean up after it
	for _, addr := range []string{web, own, auto} {
		checkServed(t, addr)
	}

	// The other one has a keeper of its own.
	w.waitKeeper(root, keeper)
	kill(t, elected.PID)
	checkServed(t, web)
	w.waitSuccessor(root, elected)
	sh.Kill()
	w.stopProject(root, web, own, auto)
}

func TestSupersededSupervisor_StopsWithTheProject(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	root := w.allowedProject(tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	w.mustRun(root, "start")
	w.waitKeeper(root)
	first := w.supervisor(root)
	conn := dial(t, addr)
	conn.exchangeLine("hi")
	_, resume := w.supersede(t, root)
	resume()
	eventually(t, "the other supervisor has the port", func() bool { return w.service(root, "web").Held })
	if !first.IsAlive() {
		t.Error("the superseded supervisor ended before its connection")
	}
	w.stopProject(root, addr)
	w.waitExit(first)
}
