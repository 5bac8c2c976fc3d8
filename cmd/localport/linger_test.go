package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/testdata/ports"
)

func TestLeave_NamesOpenConnectionsOnlyInTheLastShell(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newPatientEnv(t)
		upstream, db, web := serve(t, "127.0.0.1:0"), ports.FreePort(t), ports.FreePort(t)
		root := w.allowedProject("linger = \"10m\"\n" + tcpConfig("web", web, upstream) + tcpConfig("db", db, upstream))
		first, last := w.shell(kind, root), w.shell(kind, root)
		eventually(t, "both leases are written", func() bool { return len(w.state(root).Leases) == 2 })
		leave := func() string {
			last.Run("cd /")
			return last.Output()
		}
		clients := []*connection{dial(t, fmt.Sprint("127.0.0.1:", db)), dial(t, fmt.Sprint("127.0.0.1:", db))}
		for _, c := range clients {
			c.exchangeLine("hi")
		}
		if out := leave(); strings.Contains(out, "open") {
			t.Errorf("leaving one of two shells printed %q", out)
		}
		last.Run("cd " + root)
		first.Run("cd /")
		if out := leave(); !strings.Contains(out, "localport: shop: 2 connections are open on db; they end in 10m (linger)") {
			t.Errorf("leaving the last shell printed %q", out)
		}
		last.Run("cd " + root)
		for _, c := range clients {
			c.conn.Close()
		}
		eventually(t, "the connections have ended", func() bool { return w.service(root, "db").Connections.Open == 0 })
		if out := leave(); strings.Contains(out, "open") {
			t.Errorf("leaving without connections printed %q", out)
		}
	})
}

// keptProject is an unused project with linger = "connections" whose ports have been closed while a client was connected.
type keptProject struct {
	*testEnv
	root, addr string
	client     *connection
	supervisor lockstate.Process // which is draining
}

func startKeptProject(t *testing.T) *keptProject {
	t.Helper()
	w := newPatientEnv(t)
	w.writeUserConfig("linger = 0.1\n")
	port := ports.FreePort(t)
	p := &keptProject{testEnv: w, addr: fmt.Sprint("127.0.0.1:", port)}
	p.root = w.allowedProject("linger = \"connections\"\n" + tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	sh := w.shell("bash", p.root)
	p.supervisor = w.supervisor(p.root)
	p.client = dial(t, p.addr)
	p.client.exchangeLine("before")
	sh.Run("cd /")
	if out := sh.Output(); !strings.Contains(out, `1 connection is open on web; it stays until it is closed, for at most 1h (linger = "connections")`) {
		t.Errorf("leaving printed %q", out)
	}
	eventually(t, "the port is closed", func() bool { return !listens(p.addr) })
	p.checkClientServed(t)
	return p
}

func (p *keptProject) checkClientServed(t *testing.T) {
	t.Helper()
	if answer := p.client.exchangeLine("still"); answer != "hello still\n" {
		t.Errorf("the established connection answered %q", answer)
	}
}

func TestLingerConnections_DrainsAfterThePortsAreClosed(t *testing.T) {
	t.Parallel()
	p := startKeptProject(t)
	var status api.Status
	eventually(t, "only the client is connected", func() bool { // the count also had the connections that found the port open
		status = p.status(p.root)
		return len(status.Draining) == 1 && len(status.Draining[0].Services) == 1 && status.Draining[0].Services[0].Open == 1
	})
	if status.State != "stopped" || len(status.Draining) != 1 || status.Draining[0].PID != p.supervisor.PID ||
		len(status.Draining[0].Services) != 1 || status.Draining[0].Services[0].Open != 1 || status.Draining[0].Until == nil {
		t.Errorf("status: %+v", status)
	}
	want := fmt.Sprintf("\nearlier connection still open (pid %d): 1 on web; closed at ", p.supervisor.PID)
	if text := p.mustRun(p.root, "status"); !strings.Contains(text, want) {
		t.Errorf("status lacks %q:\n%s", want, text)
	}

	// Another supervisor serves new clients on the same port.
	p.mustRun(p.root, "start")
	if now := p.supervisor; now == p.testEnv.supervisor(p.root) {
		t.Error("the draining supervisor was elected again")
	}
	checkServed(t, p.addr)
	p.checkClientServed(t)
	if status := p.status(p.root); status.State != "running" || len(status.Draining) != 1 {
		t.Errorf("status of the new supervisor: %+v", status)
	}
	p.client.conn.Close()
	p.waitExit(p.supervisor)
	if status := p.status(p.root); len(status.Draining) != 0 || len(p.state(p.root).Draining) != 0 {
		t.Errorf("after the last connection: %+v", status)
	}
	checkServed(t, p.addr)
}

func TestLingerConnections_StopEndsThem(t *testing.T) {
	t.Parallel()
	p := startKeptProject(t)
	p.mustRun(p.root, "stop")
	if _, err := io.ReadAll(p.client.lines); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the established connection ended with %v, want a reset", err)
	}
	p.waitExit(p.supervisor)
	p.checkNothingLeft(p.root, p.addr)
}

// A project that needs the port for another target gets it, and the established connections stay.
func TestLingerConnections_GivesUpThePort(t *testing.T) {
	t.Parallel()
	w := newPatientEnv(t)
	w.writeUserConfig("linger = \"10m\"\n")
	port := ports.FreePort(t)
	addr := fmt.Sprint("127.0.0.1:", port)
	config := func() string { return "linger = \"connections\"\n" + tcpConfig("web", port, serve(t, "127.0.0.1:0")) }
	root, other := w.allowedProject(config()), w.allowedProject(config())
	sh := w.shell("bash", root)
	supervisor, client := w.supervisor(root), dial(t, addr)
	client.exchangeLine("before")
	sh.Run("cd /")
	w.mustRun(other, "start")
	if status := w.status(root); status.State != "stopped" || len(status.Draining) != 1 {
		t.Errorf("status of the first project: %+v", status)
	}
	checkServed(t, addr)
	if answer := client.exchangeLine("still"); answer != "hello still\n" {
		t.Errorf("the established connection answered %q", answer)
	}
	client.conn.Close()
	w.waitExit(supervisor)
}

// The connections of a supervisor that was replaced stay too when its successor ends.
func TestLingerConnections_OutliveAReplacement(t *testing.T) {
	t.Parallel()
	w := newPatientEnv(t)
	w.writeUserConfig("linger = 0.1\n")
	port := ports.FreePort(t)
	addr := fmt.Sprint("127.0.0.1:", port)
	root := w.allowedProject("linger = \"connections\"\n" + tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	sh := w.shell("bash", root)
	first, client := w.supervisor(root), dial(t, addr)
	client.exchangeLine("before")
	w.mustRun(root, "daemon", "restart")
	successor := w.supervisor(root)
	eventually(t, "status shows the connection", func() bool {
		draining := w.status(root).Draining
		return len(draining) == 1 && draining[0].PID == first.PID && draining[0].Until == nil
	})
	second := dial(t, addr)
	second.exchangeLine("to the successor")
	sh.Run("cd /")
	if out := sh.Output(); !strings.Contains(out, "2 connections are open on web; they stay until they are closed") {
		t.Errorf("leaving printed %q", out)
	}
	second.conn.Close()
	w.waitExit(successor)
	eventually(t, "the connection has a limit", func() bool {
		draining := w.status(root).Draining
		return len(draining) == 1 && draining[0].Until != nil
	})
	if answer := client.exchangeLine("still"); answer != "hello still\n" {
		t.Errorf("the established connection answered %q", answer)
	}
	client.conn.Close()
	w.waitExit(first)
	w.checkNothingLeft(root, addr)
}

// A restart waits for its services although the project has no other user, and its linger expires meanwhile.
func TestLinger_RestartKeepsTheProjectWhileItWaits(t *testing.T) {
	t.Parallel()
	w := newPatientEnv(t)
	up, down := serve(t, "127.0.0.1:0"), &server{port: ports.FreePort(t)}
	const linger = "linger = 0.5\n"
	root := w.allowedProject(linger + tcpConfig("up", ports.FreePort(t), up) + tcpConfig("down", ports.FreePort(t), down))
	clock := w.allowedProject(linger + tcpConfig("up", ports.FreePort(t), up))
	pid, end := startSleep(t)
	w.mustRun(root, "lease", "--pid", strconv.Itoa(pid))
	supervisor := w.supervisor(root)
	resultCh := make(chan commandResult, 1)
	go func() { resultCh <- w.localport(root, "restart") }()
	eventually(t, "restart has a lease", func() bool {
		return slices.ContainsFunc(w.state(root).Leases, func(l lockstate.Lease) bool { return l.Kind == lockstate.ExecLease })
	})
	end()
	w.mustRun(clock, "exec", "--", "true")
	w.waitExit(w.supervisor(clock)) // its linger began later
	if !supervisor.IsAlive() {
		t.Error("the supervisor ended although restart waits")
	}
	serve(t, fmt.Sprintf("127.0.0.1:%d", down.port))
	if o := <-resultCh; o.code != 0 {
		t.Errorf("restart: exit %d, %s", o.code, o.stderr)
	}
	w.waitExit(supervisor)
}

// editorProgram is started from a shell, as by `code .`, and leaves its terminal. It sends what it is told through its connection, if it has one.
const editorProgram = `if [ "$1" = connect ]; then exec 3<>/dev/tcp/127.0.0.1/$WEB_PORT; fi
mkfifo told
exec 4<>told
echo $$ >editor
while read -r line <&4; do
	echo "$line" >&3
	read -r answer <&3
	echo "$answer" >>answers
done
`

func TestLinger_AConnectedProgramKeepsTheForwardsOfTheShellThatStartedIt(t *testing.T) {
	t.Parallel()
	for kind, end := range map[string]string{"bash": "cd", "zsh": "hangup", "fish": "kill"} {
		t.Run(kind+" "+end, func(t *testing.T) {
			t.Parallel()
			w := newPatientEnv(t)
			root, port := w.leasedProject(t)
			w.writeFile(root, "editor.sh", editorProgram)
			sh := w.shell(kind, root)
			sh.Run("setsid bash editor.sh connect & disown; true")
			pid := w.waitPID(root, "editor")
			t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
			tell := func(line string) {
				t.Helper()
				if err := os.WriteFile(filepath.Join(root, "told"), []byte(line+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				eventually(t, "the editor has an answer to "+line, func() bool {
					text, _ := os.ReadFile(filepath.Join(root, "answers"))
					return strings.HasSuffix(string(text), "hello "+line+"\n")
				})
			}
			tell("one")
			supervisor := w.supervisor(root)
			switch end {
			case "hangup":
				sh.Hangup()
			case "kill":
				sh.Kill()
			case "cd":
				sh.Run("cd /")
				if out := sh.Output(); !strings.Contains(out, "it ends in 100ms (linger), unless a program") {
					t.Errorf("leaving printed %q", out)
				}
			}
			eventually(t, "the editor has the lease", func() bool {
				leases := w.state(root).Leases
				return len(leases) == 1 && leases[0].Kind == lockstate.ProcessLease && leases[0].PID == pid
			})
			tell("two")
			if answer, err := ask(fmt.Sprintf("127.0.0.1:%d", port), "you"); answer != "hello you\n" {
				t.Errorf("another connection: %q, %v", answer, err)
			}
			if out := w.mustRun(root, "status"); !strings.Contains(out, "used by 1 process") {
				t.Errorf("status: %s", out)
			}
			if !supervisor.IsAlive() {
				t.Error("the supervisor has ended")
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			w.waitExit(supervisor)
			w.checkNothingLeft(root)
		})
	}
}

func TestLinger_AProgramThatIsLeasedKeepsTheForwardsAndAnotherDoesNot(t *testing.T) {
	t.Parallel()
	for _, isLeased := range []bool{false, true} {
		w := newPatientEnv(t)
		root, _ := w.leasedProject(t)
		w.writeFile(root, "editor.sh", editorProgram)
		sh := w.shell("bash", root)
		sh.Run("setsid bash editor.sh & disown; true")
		pid := w.waitPID(root, "editor")
		t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
		if isLeased {
			w.mustRun(root, "lease", "--pid", strconv.Itoa(pid))
		}
		supervisor := w.supervisor(root)
		sh.Kill()
		if isLeased {
			eventually(t, "only the editor uses the project", func() bool { return len(w.status(root).Leases) == 1 })
			if !supervisor.IsAlive() {
				t.Error("the supervisor has ended, although the editor has a lease")
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		w.waitExit(supervisor)
		w.checkNothingLeft(root)
	}
}

// waitPID waits until a file of the project has a pid.
func (w *testEnv) waitPID(root, name string) (pid int) {
	w.t.Helper()
	eventually(w.t, "a pid in "+name, func() bool {
		text, _ := os.ReadFile(filepath.Join(root, name))
		var err error
		pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil && strings.HasSuffix(string(text), "\n")
	})
	return pid
}
