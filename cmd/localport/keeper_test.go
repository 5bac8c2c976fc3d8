package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/testdata/ports"
)

// clientStream is clients that come again and again, from its start until stop.
type clientStream struct {
	addr  string
	begun time.Time
	quit  chan struct{}
	done  sync.WaitGroup

	mu    sync.Mutex
	calls []call
}

type call struct {
	began, ended time.Time
	answer       string
	err          error
}

// startClientStream has fifty clients come in a second.
func startClientStream(addr string) *clientStream { return rushEvery(20*time.Millisecond, addr) }

func rushEvery(pace time.Duration, addr string) *clientStream {
	c := &clientStream{addr: addr, begun: time.Now(), quit: make(chan struct{})}
	c.done.Go(func() {
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for {
			select {
			case <-c.quit:
				return
			case <-tick.C:
				c.done.Go(c.call)
			}
		}
	})
	return c
}

func (c *clientStream) call() {
	began := time.Now()
	answer, err := ask(c.addr, "you")
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, call{began, time.Now(), answer, err})
}

// answered is how many clients that came after t have had their answer.
func (c *clientStream) answered(t time.Time) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, one := range c.calls {
		if one.began.After(t) && one.err == nil {
			n++
		}
	}
	return n
}

func (c *clientStream) stop() []call {
	close(c.quit)
	c.done.Wait()
	return c.calls
}

// refused are the clients that found the port closed, and failed those that came after t and got no answer.
func refused(calls []call, t time.Time) (refused, failed int) {
	for _, one := range calls {
		if errors.Is(one.err, syscall.ECONNREFUSED) {
			refused++
		}
		if one.began.After(t) && one.answer != "hello you\n" {
			failed++
		}
	}
	return refused, failed
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// down takes the project down and waits until nothing of it is left.
func (w *world) down(root string, addrs ...string) {
	w.t.Helper()
	w.mustRun(root, "stop")
	eventually(w.t, "every process has ended", func() bool { return len(w.processes()) == 0 })
	w.nothingLeft(root, addrs...)
}

// keeperPID waits until the project has a keeper, other than the ones before, and returns its pid.
func (w *world) keeperPID(root string, before ...int) int {
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
	w := newWorld(t)
	web, port := serve(t, "127.0.0.1:0"), ports.FreePort(t)
	root := w.allowedProject(tcpConfig("web", port, web) + commandConfig(t, "own", ports.FreePort(t)))
	w.mustRun(root, "start")
	w.keeperPID(root)
	c := startClientStream(fmt.Sprintf("127.0.0.1:%d", port))
	first := time.Now()
	eventually(t, "the rush is served", func() bool { return c.answered(first) > 20 })

	supervisor := w.supervisor(root)
	children := childrenOf(t, supervisor.PID)
	kill(t, supervisor.PID)
	killed := time.Now()
	eventually(t, "the rush is served again", func() bool { return c.answered(killed) > 20 })
	calls := c.stop()
	if refused, failed := refused(calls, killed); refused > 0 || failed > 0 {
		t.Errorf("%d of %d refused, %d of those after the kill failed", refused, len(calls), failed)
	}
	slices.SortFunc(calls, func(a, b call) int { return a.ended.Compare(b.ended) })
	for _, one := range calls {
		if one.began.After(killed) {
			t.Logf("the first answer came %v after the kill", one.ended.Sub(killed))
			break
		}
	}
	if now := w.supervisor(root); now == supervisor {
		t.Error("the dead supervisor is still the one")
	}
	for _, child := range children {
		w.waitExit(child)
	}
	if leases := w.state(root).Leases; len(leases) != 1 || leases[0].Kind != lockstate.StartLease {
		t.Errorf("the leases are %v", leases)
	}
	w.down(root, fmt.Sprintf("127.0.0.1:%d", port))
}

func TestKeeper_ReplacesSupervisorsRepeatedlyOnTheRunningConfig(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web, port := serve(t, "127.0.0.1:0"), ports.FreePort(t)
	config := tcpConfig("web", port, web)
	root := w.allowedProject(config)
	w.mustRun(root, "start")
	w.keeperPID(root)
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
	w.down(root, fmt.Sprintf("127.0.0.1:%d", port))
}

func TestKeeper_IsReplacedWhenKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web, port := serve(t, "127.0.0.1:0"), ports.FreePort(t)
	root := w.allowedProject(tcpConfig("web", port, web))
	w.mustRun(root, "start")
	first := w.keeperPID(root)
	kill(t, first)
	second := w.keeperPID(root, first)
	if second == first {
		t.Fatal("the killed keeper is still the one")
	}
	kill(t, w.supervisor(root).PID)
	if answer, err := ask(fmt.Sprintf("127.0.0.1:%d", port), "you"); answer != "hello you\n" {
		t.Errorf("after both were killed, one after the other: %q, %v", answer, err)
	}
	w.down(root, fmt.Sprintf("127.0.0.1:%d", port))
}

func TestCommand_RecoversFromKilledSupervisorAndKeeper(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web, port := serve(t, "127.0.0.1:0"), ports.FreePort(t)
	root := w.allowedProject(tcpConfig("web", port, web))
	w.mustRun(root, "start")
	pid, supervisor := w.keeperPID(root), w.supervisor(root)
	_ = syscall.Kill(pid, syscall.SIGSTOP) // so that it cannot do its work in between
	kill(t, supervisor.PID)
	kill(t, pid)
	eventually(t, "both are gone", func() bool { return len(w.processes()) == 0 })
	w.mustRun(root, "exec", "--", "true")
	if answer, err := ask(fmt.Sprintf("127.0.0.1:%d", port), "you"); answer != "hello you\n" {
		t.Errorf("%q, %v", answer, err)
	}
}

// as is the world in which localport is of another release.
func (w *world) as(release string) *world {
	w.t.Helper()
	other := *w
	other.exe = filepath.Join(w.home, "localport"+releaseMark+release)
	if err := os.Link(w.exe, other.exe); err != nil && !os.IsExist(err) {
		data, err := os.ReadFile(w.exe) // another file system
		if err == nil {
			err = os.WriteFile(other.exe, data, 0o755)
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	return &other
}

func TestUpgrade_KeepsPortsLeasesAndConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web, port := serve(t, "127.0.0.1:0"), ports.FreePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	root := w.allowedProject(tcpConfig("web", port, web))
	w.as("1.2.0").mustRun(root, "start")
	old := w.supervisor(root)
	conn := dial(t, addr)
	conn.checkReply("hi")
	c := startClientStream(addr)

	w.as("1.10.0").mustRun(root, "exec", "--", "true")
	state := w.state(root)
	if state.Supervisor.Process == old || state.Supervisor.Version != "1.10.0" {
		t.Fatalf("after the newer release: %+v", state.Supervisor)
	}
	if len(state.Leases) == 0 || state.Leases[0].Kind != lockstate.StartLease {
		t.Errorf("the leases are %v", state.Leases)
	}
	w.as("1.2.0").mustRun(root, "exec", "--", "true")
	w.as("1.10.0").mustRun(root, "exec", "--", "true")
	w.as("1.11.0-dev").mustRun(root, "exec", "--", "true")
	if now := w.state(root).Supervisor.Process; now != state.Supervisor.Process {
		t.Error("it was replaced once more, by an older, the same or no release")
	}
	if !old.IsAlive() {
		t.Fatal("the old one ended with a connection open")
	}
	if got := conn.checkReply("still there?"); got != "hello still there?\n" {
		t.Errorf("the established connection answers %q", got)
	}
	conn.conn.Close()
	w.waitExit(old)
	calls := c.stop()
	if refused, failed := refused(calls, time.Time{}); refused > 0 || failed > 0 {
		t.Errorf("%d of %d refused, %d failed", refused, len(calls), failed)
	}
	w.down(root, addr)
}

func TestUpgrade_DrainingSupervisorStopsWithTheProject(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web, port := serve(t, "127.0.0.1:0"), ports.FreePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	root := w.allowedProject(tcpConfig("web", port, web))
	w.as("1.0.0").mustRun(root, "start")
	old := w.supervisor(root)
	dial(t, addr).checkReply("hi")
	w.as("1.0.1").mustRun(root, "exec", "--", "true")
	if !old.IsAlive() {
		t.Fatal("the old one ended with a connection open")
	}
	w.down(root, addr)
}

// A start that fails because something is short is tried again, with the ports open all the time.
func TestKeeper_RetriesAStartThatFailed(t *testing.T) {
	t.Parallel()
	w := newWorld(t).as("1.0.0")
	port := ports.FreePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	root := w.allowedProject(tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	w.keeperPID(root)
	tried := filepath.Join(w.home, "tried")
	restore := w.replaceProgram("#!/bin/sh\necho >>" + tried + `
case "$*" in *supervise*) echo '{"outcome":"failed","error":"too many open files"}' >&3 ;; esac
exit 1
`)
	c := startClientStream(addr)
	kill(t, w.supervisor(root).PID)
	eventually(t, "the keeper has tried twice", func() bool {
		data, _ := os.ReadFile(tried)
		return len(data) >= 2
	})
	restore()
	if answer, err := ask(addr, "you"); answer != "hello you\n" {
		t.Errorf("through the forward: %q, %v", answer, err)
	}
	if refused, failed := refused(c.stop(), time.Time{}); refused > 0 || failed > 0 {
		t.Errorf("%d refused, %d failed", refused, failed)
	}
	w.down(root, addr)
}

// After several failures the ports are given up, so that a prompt need not wait for the keeper; the keeper still retries.
func TestKeeper_RetriesAfterGivingUpThePorts(t *testing.T) {
	t.Parallel()
	w := newWorld(t).as("1.0.0")
	port := ports.FreePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	root := w.allowedProject(tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	w.keeperPID(root)
	restore := w.replaceProgram("#!/bin/sh\nexit 1\n")
	kill(t, w.supervisor(root).PID)
	eventually(t, "the port is closed", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	restore()
	eventually(t, "the port is open again, without a prompt", func() bool {
		answer, err := ask(addr, "you")
		return err == nil && answer == "hello you\n"
	})
	w.down(root, addr)
}

// replaceProgram writes a script in place of localport until restore.
func (w *world) replaceProgram(script string) (restore func()) {
	w.t.Helper()
	saved := w.exe + ".saved"
	if err := os.Rename(w.exe, saved); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.exe+".new", []byte(script), 0o755); err != nil {
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

func TestUpgrade_ReleaseThatCannotStartReplacesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web, port := serve(t, "127.0.0.1:0"), ports.FreePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	root := w.allowedProject(tcpConfig("web", port, web))
	w.as("1.0.0").mustRun(root, "start")
	old := w.supervisor(root)
	c := startClientStream(addr)
	err := client.Client{Socket: w.state(root).Supervisor.Socket}.Replace(t.Context(),
		api.ReplaceRequest{Exe: "/bin/false", Version: "2.0.0"})
	if err == nil || !strings.Contains(err.Error(), "/bin/false") {
		t.Errorf("replaced by /bin/false: %v", err)
	}
	state := w.state(root)
	if state.Supervisor.Process != old || state.Supervisor.Refused != "2.0.0" || !old.IsAlive() {
		t.Errorf("after it failed: %+v", state.Supervisor)
	}
	w.as("2.0.0").mustRun(root, "exec", "--", "true")
	if w.supervisor(root) != old {
		t.Error("the version that failed was tried again")
	}
	if refused, failed := refused(c.stop(), time.Time{}); refused > 0 || failed > 0 {
		t.Errorf("%d refused, %d failed", refused, failed)
	}
	kill(t, old.PID)
	if answer, err := ask(addr, "you"); answer != "hello you\n" {
		t.Errorf("killed after the failure: %q, %v", answer, err)
	}
	w.down(root, addr)
}
