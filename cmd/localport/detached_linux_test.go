package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/testdata/ports"
)

// detachedServers returns the servers whose command lines end with a mark, without the shells that start them.
func detachedServers(t *testing.T, mark string) []string {
	var pids []string
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range paths {
		if line, err := os.ReadFile(path); err == nil && strings.HasPrefix(string(line), ownExecutable(t)+"\x00") && strings.HasSuffix(string(line), "\x00"+mark+"\x00") {
			pids = append(pids, path)
		}
	}
	return pids
}

// A server without the environment that marks LocalPort's processes, in a session of its own, ends with each supervisor and at stop.
func TestCommand_DetachedServerWithAnEmptyEnvironmentEndsHoweverItsSupervisorEnds(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("setsid"); err != nil {
		t.Skip("setsid is missing")
	}
	w := newTestEnv(t)
	port := ports.FreePort(t)
	mark := fmt.Sprintf("mark-%d", port)
	script := fmt.Sprintf("env -i %s=1 setsid '%s' {port} %s & exec sleep 1000", upstreamVariable, ownExecutable(t), mark)
	root := w.allowedProject(fmt.Sprintf("[services.web]\ntechnology = \"command\"\nlocal_port = %d\ncommand = [\"sh\", \"-c\", %q]\n", port, script))
	old := w.withRelease("1.2.0")
	old.mustRun(root, "start")
	isHealthy := func() bool {
		state := w.state(root)
		return state.Supervisor != nil && state.Supervisor.IsAlive() && w.service(root, "web").State == "healthy" && len(detachedServers(t, mark)) == 1
	}
	requireOneServer := func(after string) {
		t.Helper()
		eventually(t, "one server runs after "+after, isHealthy)
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	requireOneServer("start")
	w.waitKeeper(root)
	kill(t, w.supervisor(root).PID)
	requireOneServer("the death of the supervisor")
	supervisor := w.supervisor(root)
	old.mustRun(root, "daemon", "restart")
	w.waitExit(supervisor)
	requireOneServer("daemon restart")
	supervisor = w.supervisor(root)
	w.withRelease("1.10.0").mustRun(root, "exec", "--", "true")
	w.waitExit(supervisor)
	requireOneServer("an upgrade")
	keeper := w.waitKeeper(root)
	kill(t, keeper)
	kill(t, w.supervisor(root).PID)
	w.withRelease("1.10.0").mustRun(root, "start")
	requireOneServer("the death of everything")
	w.withRelease("1.10.0").stopProject(root)
	if left := detachedServers(t, mark); len(left) > 0 {
		t.Errorf("after stop %q still run", left)
	}
}

// Of a program that puts itself into the background at each attempt, nothing is left when the next attempt starts.
func TestCommand_EachAttemptEndsWhatItHasPutIntoTheBackground(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("setsid"); err != nil {
		t.Skip("setsid is missing")
	}
	w := newTestEnv(t)
	port := ports.FreePort(t)
	mark := fmt.Sprintf("mark-%d", port)
	root := w.allowedProject(fmt.Sprintf("[services.web]\ntechnology = \"command\"\nlocal_port = %d\ncommand = [\"env\", \"-i\", \"%s=1\", \"setsid\", \"-f\", "+
		"%q, \"{port}\", %q]\n[services.web.restart_policy]\ninitial_delay = \"100ms\"\n", port, upstreamVariable, ownExecutable(t), mark))
	w.mustRun(root, "start", "--no-wait")
	var web api.ServiceStatus
	eventually(t, "the third attempt has been made", func() bool {
		if n := len(detachedServers(t, mark)); n > 1 {
			t.Fatalf("%d servers run at once", n)
		}
		web = w.service(root, "web")
		return web.Restarts >= 2
	})
	if !strings.Contains(web.LastError, "exited: exit status 0") {
		t.Errorf("the error is %q", web.LastError)
	}
	w.stopProject(root)
	if left := detachedServers(t, mark); len(left) > 0 {
		t.Errorf("after stop %q still run", left)
	}
}
