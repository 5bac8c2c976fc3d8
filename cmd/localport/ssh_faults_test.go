package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/sshd"
)

// processesNamed returns the processes of this environment whose program has a name and whose arguments end with args.
func (w *testEnv) processesNamed(name string, args ...string) []int {
	end := []byte(strings.Join(append(args, ""), "\x00"))
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	var pids []int
	for _, path := range paths {
		env, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(env, []byte("HOME="+w.home+"\x00")) {
			continue
		}
		argv, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		first, _, _ := bytes.Cut(argv, []byte{0})
		var pid int
		if _, err := fmt.Sscanf(path, "/proc/%d/environ", &pid); err == nil && filepath.Base(string(first)) == name && bytes.HasSuffix(argv, end) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestSSH_LoginSucceedsAfterAnyKillDuringALogin(t *testing.T) {
	t.Parallel()
	for victim, find := range map[string]func(w *testEnv, root string) []int{
		"ssh": func(w *testEnv, root string) (pids []int) {
			for _, child := range findChildren(w.t, w.supervisor(root).PID) {
				pids = append(pids, child.PID)
			}
			return pids
		},
		"askpass":    func(w *testEnv, _ string) []int { return w.processesNamed("localport-askpass") },
		"supervisor": func(w *testEnv, root string) []int { return []int{w.supervisor(root).PID} },
		"login":      func(w *testEnv, _ string) []int { return w.processesNamed(filepath.Base(w.exe), "login") },
	} {
		t.Run(victim, func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t)
			host := sshd.Start(t)
			config, ports := sshServicesByName(t, host, "one", "two")
			root := w.allowedProject(config)
			w.localport(root, "start")
			session := w.startOnTerminal(root, "login")
			session.answer("fingerprint is SHA256:", "")
			pids := find(w, root)
			if len(pids) == 0 {
				t.Fatal("no such process is running")
			}
			for _, pid := range pids {
				kill(t, pid)
			}
			if code := <-session.done; code == 0 {
				t.Errorf("login: exit 0\n%s", session.screen.String())
			}
			eventually(t, "both services need attention again, and no askpass is running", func() bool {
				return w.service(root, "one").State == forwarder.NeedsAttention &&
					w.service(root, "two").State == forwarder.NeedsAttention && len(w.processesNamed("localport-askpass")) == 0
			})
			session = w.startOnTerminal(root, "login")
			session.answer("fingerprint is SHA256:", "yes\n")
			session.answer("Enter passphrase for key", "open sesame\n")
			if code := <-session.done; code != 0 {
				t.Fatalf("the next login: exit %d\n%s", code, session.screen.String())
			}
			for _, port := range ports {
				if got, err := readAll(fmt.Sprintf("127.0.0.1:%d", port)); got != banner {
					t.Errorf("%q, %v", got, err)
				}
			}
		})
	}
}

func TestSSH_LoginToADeadServerFailsAtOnce(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	host := sshd.Start(t)
	config, _ := sshServicesByName(t, host, "a", "b", "c", "d", "e")
	root := w.allowedProject(config)
	w.localport(root, "start")
	host.Kill()
	l, err := net.Listen("tcp4", host.Addr())
	if err != nil {
		t.Fatal(err)
	}
	var connections atomic.Int32
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			_ = conn.Close()
		}
	}()
	defer l.Close()
	session := w.startOnTerminal(root, "login")
	if code := <-session.done; code != 1 || !strings.Contains(session.screen.String(), "when that is over: localport login") {
		t.Errorf("login: exit %d\n%s", code, session.screen.String())
	}
	eventually(t, "every service needs attention", func() bool { // login returns with the first
		return !slices.ContainsFunc(w.status(root).Services, func(svc api.ServiceStatus) bool { return svc.State != forwarder.NeedsAttention })
	})
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

func TestSSH_ConfigChangedWhileConnectingAppliesAtOnce(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	frozen := sshd.Start(t)
	good := frozen.StartAnother()
	frozen.Freeze()
	port, remotePort := ports.FreePort(t), serveBanner(t).port
	root := w.allowedProject(sshConfig("db", port, frozen, remotePort))
	w.mustRun(root, "start", "--no-wait")
	for range 5 { // however often
		for _, host := range []*sshd.Server{frozen, good} {
			w.writeFile(root, ".localport.toml", sshConfig("db", port, host, remotePort))
			w.mustRun(root, "allow")
		}
	}
	if got, err := readAll(fmt.Sprintf("127.0.0.1:%d", port)); got != banner {
		t.Errorf("%q, %v", got, err)
	}
	eventually(t, "one ssh is left", func() bool { return len(findChildren(t, w.supervisor(root).PID)) == 1 })
}

func TestSSH_SixtyServicesOnOneHostShareOneLogin(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	host := sshd.Start(t)
	remotePort := serveBanner(t).port
	var config strings.Builder
	var locals []int
	for i := range 60 {
		locals = append(locals, ports.FreePort(t))
		config.WriteString(sshConfig(fmt.Sprintf("s%d", i), locals[i], host, remotePort))
	}
	root := w.allowedProject(config.String())
	answer := func() {
		t.Helper()
		for _, port := range locals {
			if got, err := readAll(fmt.Sprintf("127.0.0.1:%d", port)); got != banner {
				t.Fatalf("%q, %v", got, err)
			}
		}
	}
	w.mustRun(root, "start")
	answer()
	if n := strings.Count(host.Log(), "Accepted publickey"); n != 1 {
		t.Errorf("%d logins", n)
	}
	host.Kill()
	host.Restart()
	answer()
	if n := strings.Count(host.Log(), "Accepted publickey"); n != 2 {
		t.Errorf("%d logins after the server's restart", n)
	}
}

func TestSSH_JumpHostSSHEndsWithItsKilledMaster(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	host := sshd.Start(t)
	jump := host.StartAnother()
	port := ports.FreePort(t)
	config := sshConfig("db", port, host, serveBanner(t).port)
	root := w.allowedProject(strings.Replace(config, "remote_host", fmt.Sprintf("jump = %q, remote_host", jump.User+"@"+jump.Addr()), 1))
	w.mustRun(root, "start")
	for _, victim := range []string{"master", "jump", "supervisor"} {
		masters := findChildren(t, w.supervisor(root).PID)
		if len(masters) != 1 {
			t.Fatalf("the supervisor's children: %v", masters)
		}
		jumps := findChildren(t, masters[0].PID)
		if len(jumps) != 1 {
			t.Fatalf("the master's children: %v", jumps)
		}
		w.waitKeeper(root)
		switch victim {
		case "master":
			kill(t, masters[0].PID)
		case "jump":
			_ = syscall.Kill(jumps[0].PID, syscall.SIGKILL) // it may have ended already
		case "supervisor":
			kill(t, w.supervisor(root).PID)
		}
		if got, err := readAll(fmt.Sprintf("127.0.0.1:%d", port)); got != banner {
			t.Errorf("%s: %q, %v", victim, got, err)
		}
		for _, p := range []lockstate.Process{masters[0], jumps[0]} {
			w.waitExit(p)
		}
	}
}

func TestSSH_TunnelsSurviveDeletedSocketDirectory(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	host := sshd.Start(t)
	port := ports.FreePort(t)
	root := w.allowedProject(sshConfig("db", port, host, serveBanner(t).port))
	w.mustRun(root, "start")
	supervisor := w.status(root).Supervisor
	socketDir := filepath.Join(filepath.Dir(supervisor.Socket), supervisor.Run)
	if err := os.RemoveAll(socketDir); err != nil { // as systemd-tmpfiles removes old files
		t.Fatal(err)
	}
	for _, master := range findChildren(t, supervisor.PID) {
		kill(t, master.PID)
	}
	if got, err := readAll(fmt.Sprintf("127.0.0.1:%d", port)); got != banner {
		t.Errorf("%q, %v", got, err)
	}
	w.mustRun(root, "stop")
	eventually(t, "the directory was removed", func() bool { _, err := os.Stat(socketDir); return os.IsNotExist(err) })
}
