package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/testdata/executable"
	"github.com/localport-sh/localport/testdata/ports"
)

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// stopProject stops the project and checks that nothing of it is left.
func (w *testEnv) stopProject(root string, addrs ...string) {
	w.t.Helper()
	w.mustRun(root, "stop")
	eventually(w.t, "every process has ended", func() bool { return len(w.processes()) == 0 })
	w.checkNothingLeft(root, addrs...)
}

// waitKeeper waits until the project has a keeper that is none of those before, and returns its pid.
func (w *testEnv) waitKeeper(root string, before ...int) int {
	w.t.Helper()
	pid := 0
	eventually(w.t, "there is a keeper", func() bool {
		if supervisor := w.state(root).Supervisor; supervisor != nil && !slices.Contains(before, supervisor.Keeper) {
			pid = supervisor.Keeper
		}
		return pid != 0
	})
	return pid
}

func TestKeeper_ReplacesAKilledSupervisorWithoutAPromptAndRefusesNobody(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	web, port := serve(t, "127.0.0.1:0"), ports.FreePort(t)
	root := w.allowedProject(tcpConfig("web", port, web) + commandConfig(t, "own", ports.FreePort(t)))
	w.mustRun(root, "start")
	w.waitKeeper(root)
	c := startGreetingClients(clientInterval, fmt.Sprintf("127.0.0.1:%d", port))
	first := time.Now()
	eventually(t, "clients are answered", func() bool { return c.countAnswered(first) > 20 })

	supervisor := w.supervisor(root)
	children := findChildren(t, supervisor.PID)
	kill(t, supervisor.PID)
	killTime := time.Now()
	eventually(t, "clients are answered again", func() bool { return c.countAnswered(killTime) > 20 })
	calls := c.stop()
	if refused, failed := countRefused(calls, killTime); refused > 0 || failed > 0 {
		t.Errorf("%d of %d refused, %d of those after the kill failed", refused, len(calls), failed)
	}
	slices.SortFunc(calls, func(a, b greetingResult) int { return a.endTime.Compare(b.endTime) })
	for _, call := range calls {
		if call.startTime.After(killTime) {
			t.Logf("the first answer came %v after the kill", call.endTime.Sub(killTime))
			break
		}
	}
	if now := w.supervisor(root); now == supervisor {
		t.Error("the killed supervisor was not replaced")
	}
	for _, child := range children {
		w.waitExit(child)
	}
	if leases := w.state(root).Leases; len(leases) != 1 || leases[0].Kind != lockstate.StartLease {
		t.Errorf("the leases are %v", leases)
	}
	w.stopProject(root, fmt.Sprintf("127.0.0.1:%d", port))
}

func TestKeeper_ReplacesSupervisorsRepeatedlyOnTheRunningConfig(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	web, port := serve(t, "127.0.0.1:0"), ports.FreePort(t)
	config := tcpConfig("web", port, web)
	root := w.allowedProject(config)
	w.mustRun(root, "start")
	w.waitKeeper(root)
	w.writeFile(root, ".localport.toml", "nonsense = ")
	for range 3 {
		supervisor := w.supervisor(root)
		kill(t, supervisor.PID)
		if answer, err := ask(fmt.Sprintf("127.0.0.1:%d", port), "you"); answer != "hello you\n" {
			t.Fatalf("after a kill: %q, %v", answer, err)
		}
		eventually(t, "another supervisor is recorded", func() bool {
			now := w.state(root).Supervisor
			return now != nil && now.Process != supervisor && now.IsAlive()
		})
	}
	w.stopProject(root, fmt.Sprintf("127.0.0.1:%d", port))
}

func TestKeeper_IsReplacedWhenKilled(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	web, port := serve(t, "127.0.0.1:0"), ports.FreePort(t)
	root := w.allowedProject(tcpConfig("web", port, web))
	w.mustRun(root, "start")
	first := w.waitKeeper(root)
	kill(t, first)
	second := w.waitKeeper(root, first)
	if second == first {
		t.Fatal("the killed keeper was not replaced")
	}
	kill(t, w.supervisor(root).PID)
	if answer, err := ask(fmt.Sprintf("127.0.0.1:%d", port), "you"); answer != "hello you\n" {
		t.Errorf("after both were killed, one after the other: %q, %v", answer, err)
	}
	w.stopProject(root, fmt.Sprintf("127.0.0.1:%d", port))
}

func TestCommand_RecoversFromKilledSupervisorAndKeeper(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	web, port := serve(t, "127.0.0.1:0"), ports.FreePort(t)
	root := w.allowedProject(tcpConfig("web", port, web))
	w.mustRun(root, "start")
	pid, supervisor := w.waitKeeper(root), w.supervisor(root)
	_ = syscall.Kill(pid, syscall.SIGSTOP) // so that it does not start another supervisor
	kill(t, supervisor.PID)
	kill(t, pid)
	eventually(t, "both have ended", func() bool { return len(w.processes()) == 0 })
	w.mustRun(root, "exec", "--", "true")
	if answer, err := ask(fmt.Sprintf("127.0.0.1:%d", port), "you"); answer != "hello you\n" {
		t.Errorf("%q, %v", answer, err)
	}
}

// withRelease returns the same testEnv with a localport of another release.
func (w *testEnv) withRelease(release string) *testEnv {
	w.t.Helper()
	other := *w
	other.exe = filepath.Join(w.home, "localport"+releaseSeparator+release)
	if err := os.Link(w.exe, other.exe); err != nil && !os.IsExist(err) {
		data, err := os.ReadFile(w.exe) // another file system
		if err == nil {
			err = executable.WriteFile(other.exe, data, 0o755)
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	return &other
}

func TestUpgrade_KeepsPortsLeasesAndConnections(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	web, port := serve(t, "127.0.0.1:0"), ports.FreePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	root := w.allowedProject(tcpConfig("web", port, web))
	w.withRelease("1.2.0").mustRun(root, "start")
	old := w.supervisor(root)
	conn := dial(t, addr)
	conn.exchangeLine("hi")
	c := startGreetingClients(clientInterval, addr)

	w.withRelease("1.10.0").mustRun(root, "exec", "--", "true")
	state := w.state(root)
	if state.Supervisor.Process == old || state.Supervisor.Version != "1.10.0" {
		t.Fatalf("after the newer release: %+v", state.Supervisor)
	}
	if len(state.Leases) == 0 || state.Leases[0].Kind != lockstate.StartLease {
		t.Errorf("the leases are %v", state.Leases)
	}
	w.withRelease("1.2.0").mustRun(root, "exec", "--", "true")
	w.withRelease("1.10.0").mustRun(root, "exec", "--", "true")
	w.withRelease("1.11.0-dev").mustRun(root, "exec", "--", "true")
	if now := w.state(root).Supervisor.Process; now != state.Supervisor.Process {
		t.Error("it was replaced once more, by an older release, the same one or a development build")
	}
	if !old.IsAlive() {
		t.Fatal("the old one ended with a connection open")
	}
	if got := conn.exchangeLine("still there?"); got != "hello still there?\n" {
		t.Errorf("the established connection answers %q", got)
	}
	conn.conn.Close()
	w.waitExit(old)
	calls := c.stop()
	if refused, failed := countRefused(calls, time.Time{}); refused > 0 || failed > 0 {
		t.Errorf("%d of %d refused, %d failed", refused, len(calls), failed)
	}
	w.stopProject(root, addr)
}

func TestUpgrade_DrainingSupervisorStopsWithTheProject(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	web, port := serve(t, "127.0.0.1:0"), ports.FreePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	root := w.allowedProject(tcpConfig("web", port, web))
	w.withRelease("1.0.0").mustRun(root, "start")
	old := w.supervisor(root)
	dial(t, addr).exchangeLine("hi")
	w.withRelease("1.0.1").mustRun(root, "exec", "--", "true")
	if !old.IsAlive() {
		t.Fatal("the old one ended with a connection open")
	}
	w.stopProject(root, addr)
}

// A start that fails for lack of resources is retried while the ports stay open.
func TestKeeper_RetriesAStartThatFailed(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t).withRelease("1.0.0")
	port := ports.FreePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	root := w.allowedProject(tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	w.waitKeeper(root)
	attemptsPath := filepath.Join(w.home, "tried")
	restore := w.replaceProgram("#!/bin/sh\necho >>" + attemptsPath + `
case "$*" in *supervise*) echo '{"outcome":"failed","error":"too many open files"}' >&3 ;; esac
exit 1
`)
	c := startGreetingClients(clientInterval, addr)
	kill(t, w.supervisor(root).PID)
	eventually(t, "the keeper has retried", func() bool {
		data, _ := os.ReadFile(attemptsPath)
		return len(data) >= 2
	})
	restore()
	if answer, err := ask(addr, "you"); answer != "hello you\n" {
		t.Errorf("through the forward: %q, %v", answer, err)
	}
	if refused, failed := countRefused(c.stop(), time.Time{}); refused > 0 || failed > 0 {
		t.Errorf("%d refused, %d failed", refused, failed)
	}
	w.stopProject(root, addr)
}

// After several failures the ports are given up, so that a prompt need not wait for the keeper; the keeper still retries.
func TestKeeper_RetriesAfterGivingUpThePorts(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t).withRelease("1.0.0")
	port := ports.FreePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	root := w.allowedProject(tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	w.waitKeeper(root)
	w.killUntilPortsClose(root, addr)
	eventually(t, "the port is open again, without a prompt", func() bool {
		answer, err := ask(addr, "you")
		return err == nil && answer == "hello you\n"
	})
	w.stopProject(root, addr)
}

// When nobody uses the project any more, the keeper's next attempt starts nothing.
func TestKeeper_EndsWithoutALeaseAfterGivingUpThePorts(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t).withRelease("1.0.0")
	addr := fmt.Sprintf("127.0.0.1:%d", ports.FreePort(t))
	_, port, _ := net.SplitHostPort(addr)
	root := w.allowedProject(tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	w.waitKeeper(root)
	w.killUntilPortsClose(root, addr)
	dir := &lockstate.Dir{Path: w.stateDir(root), Config: w.state(root).Config}
	if _, err := dir.Update(t.Context(), func(tx *lockstate.Tx) error {
		tx.RemoveLease(lockstate.StartLease, lockstate.Process{})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the keeper has ended", func() bool { return len(w.processes()) == 0 })
	if conn, err := net.Dial("tcp", addr); err == nil {
		conn.Close()
		t.Error("the port is open although nobody uses the project")
	}
}

// killUntilPortsClose kills the supervisor, and has every next one fail until the keeper gives up the ports.
func (w *testEnv) killUntilPortsClose(root, addr string) {
	w.t.Helper()
	restore := w.replaceProgram("#!/bin/sh\nexit 1\n")
	if err := syscall.Kill(w.supervisor(root).PID, syscall.SIGKILL); err != nil {
		w.t.Fatal(err)
	}
	eventually(w.t, "the port is closed", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	restore()
}

// replaceProgram writes a script in place of localport until restore.
func (w *testEnv) replaceProgram(script string) (restore func()) {
	w.t.Helper()
	saved := w.exe + ".saved"
	if err := os.Rename(w.exe, saved); err != nil {
		w.t.Fatal(err)
	}
	if err := executable.WriteFile(w.exe+".new", []byte(script), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(w.exe+".new", w.exe); err != nil {
		w.t.Fatal(err)
	}
	return func() {
		w.t.Helper()
		if err := os.Rename(saved, w.exe); err != nil {
			w.t.Fatal(err)
		}
	}
}

// A release may have been unable to start because the machine was out of memory: it is tried again an hour later.
func TestUpgrade_ReleaseThatCouldNotStartIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	web, port := serve(t, "127.0.0.1:0"), ports.FreePort(t)
	root := w.allowedProject(tcpConfig("web", port, web))
	w.withRelease("1.0.0").mustRun(root, "start")
	old, recorded := w.supervisor(root), w.state(root).Supervisor
	if err := (client.Client{Socket: recorded.Socket}).Replace(t.Context(), api.ReplaceRequest{Exe: "/bin/false", Version: "2.0.0"}); err == nil {
		t.Fatal("replaced by /bin/false")
	}
	refusedAt := w.state(root).Supervisor.RefusedAt
	w.withRelease("2.0.0").mustRun(root, "exec", "--", "true")
	if w.supervisor(root) != old || time.Since(refusedAt) > time.Minute {
		t.Errorf("refused at %v and tried again at once", refusedAt)
	}
	dir := &lockstate.Dir{Path: w.stateDir(root), Config: w.state(root).Config}
	if _, err := dir.Update(t.Context(), func(tx *lockstate.Tx) error {
		tx.Supervisor.RefusedAt = refusedAt.Add(-time.Hour)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	w.withRelease("2.0.0").mustRun(root, "exec", "--", "true")
	if w.supervisor(root) == old {
		t.Error("the release was not tried again an hour later")
	}
	w.stopProject(root, fmt.Sprintf("127.0.0.1:%d", port))
}

func TestUpgrade_ReleaseThatCannotStartReplacesNothing(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	web, port := serve(t, "127.0.0.1:0"), ports.FreePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	root := w.allowedProject(tcpConfig("web", port, web))
	w.withRelease("1.0.0").mustRun(root, "start")
	old := w.supervisor(root)
	c := startGreetingClients(clientInterval, addr)
	err := client.Client{Socket: w.state(root).Supervisor.Socket}.Replace(t.Context(),
		api.ReplaceRequest{Exe: "/bin/false", Version: "2.0.0"})
	if err == nil || !strings.Contains(err.Error(), "/bin/false") {
		t.Errorf("replaced by /bin/false: %v", err)
	}
	state := w.state(root)
	if state.Supervisor.Process != old || state.Supervisor.Refused != "2.0.0" || !old.IsAlive() {
		t.Errorf("after it failed: %+v", state.Supervisor)
	}
	w.withRelease("2.0.0").mustRun(root, "exec", "--", "true")
	if w.supervisor(root) != old {
		t.Error("the version that failed was tried again")
	}
	if refused, failed := countRefused(c.stop(), time.Time{}); refused > 0 || failed > 0 {
		t.Errorf("%d refused, %d failed", refused, failed)
	}
	kill(t, old.PID)
	if answer, err := ask(addr, "you"); answer != "hello you\n" {
		t.Errorf("killed after the failure: %q, %v", answer, err)
	}
	w.stopProject(root, addr)
}
