package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/testdata/ports"
)

func TestPorts_ArePassedBetweenProjectsOnCd(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnv(t)
		port := ports.FreePort(t)
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		upstream := serve(t, "127.0.0.1:0")
		// Both linger for long, and must still pass on the port at once.
		one := w.allowedProject("linger = 60\n" + tcpConfig("one", port, upstream))
		two := w.allowedProject("linger = 60\n" + tcpConfig("two", port, upstream))
		sh := w.shell(kind, w.home)
		for _, p := range []struct{ root, name string }{{one, "ONE_PORT"}, {two, "TWO_PORT"}, {one, "ONE_PORT"}} {
			sh.Run("cd " + p.root)
			if env := sh.Environ(); env[p.name] != fmt.Sprint(port) {
				t.Errorf("in %s %s=%q; it printed %q", p.root, p.name, env[p.name], sh.Screen())
			}
			if answer, err := ask(addr, "you"); answer != "hello you\n" {
				t.Errorf("in %s: %q, %v", p.root, answer, err)
			}
		}
		sh.Run("cd /")
		w.mustRun(one, "stop")
	}, otherShells...)
}

func TestPorts_TakenPortFailsOnlyItsServiceAndNamesTheHolder(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	upstream := serve(t, "127.0.0.1:0")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port, free := taken.Addr().(*net.TCPAddr).Port, ports.FreePort(t)
	root := w.allowedProject(tcpConfig("taken", port, upstream) + tcpConfig("free", free, upstream) +
		"[env]\nBOTH = \"${taken.port} ${free.port}\"\nONE = \"${free.port}\"\n")
	sh := w.shell("bash", root)
	if screen := sh.Screen(); !strings.Contains(screen, "is already in use by") {
		t.Errorf("entering printed %q", screen)
	}
	env := sh.Environ()
	if hasVariable(env, "TAKEN_PORT") || hasVariable(env, "BOTH") || env["FREE_PORT"] != fmt.Sprint(free) || env["ONE"] != fmt.Sprint(free) {
		t.Errorf("TAKEN_PORT=%q BOTH=%q FREE_PORT=%q ONE=%q", env["TAKEN_PORT"], env["BOTH"], env["FREE_PORT"], env["ONE"])
	}
	svc := w.service(root, "taken")
	if svc.State != forwarder.Failed || svc.Held || !strings.Contains(svc.LastError, fmt.Sprintf("(pid %d)", os.Getpid())) ||
		!strings.Contains(svc.Hint, "auto") || !strings.Contains(svc.Hint, ".localport.local.toml") {
		t.Errorf("status: %+v", svc)
	}
	if answer, err := ask(fmt.Sprintf("127.0.0.1:%d", free), "you"); answer != "hello you\n" {
		t.Errorf("the other service: %q, %v", answer, err)
	}

	if o := w.localport(root, "port", "taken"); o.code != output.ExitFailed || o.stdout != "" || !strings.Contains(o.stderr, "is already in use by") {
		t.Errorf("port: exit %d, %q, %q", o.code, o.stdout, o.stderr)
	}

	taken.Close()
	eventually(t, "the service holds its port", func() bool { return w.service(root, "taken").Held })
	eventually(t, "it is healthy", func() bool { return w.service(root, "taken").State == forwarder.Healthy })
	if got := w.mustRun(root, "port", "taken"); got != fmt.Sprintln(port) {
		t.Errorf("port: %q", got)
	}
	// The line that prompts compare is written after the status, and its own file last.
	eventually(t, "a prompt exports the variables of the port that is ours now", func() bool {
		sh.Run("true")
		env := sh.Environ()
		return env["TAKEN_PORT"] == fmt.Sprint(port) && env["BOTH"] != ""
	})
}

func TestPorts_PortOfAStoppedProjectMayBeAnotherPrograms(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := taken.Addr().(*net.TCPAddr).Port
	root := w.allowedProject(tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	want := fmt.Sprintf("(pid %d)", os.Getpid())
	if o := w.localport(root, "port", "web"); o.code != output.ExitFailed || o.stdout != "" || !strings.Contains(o.stderr, want) {
		t.Errorf("port: exit %d, %q, %q; want %q", o.code, o.stdout, o.stderr, want)
	}
	if o := w.localport(root, "env"); o.code != output.ExitFailed || o.stdout != "" || !strings.Contains(o.stderr, want) {
		t.Errorf("env: exit %d, %q, %q; want %q", o.code, o.stdout, o.stderr, want)
	}
	taken.Close()
	if got := w.mustRun(root, "port", "web"); got != fmt.Sprintln(port) {
		t.Errorf("port: %q", got)
	}
	w.mustRun(root, "env")
}

func TestPorts_PortInUseByAnotherProjectNamesThatProject(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	one := w.allowedProject(tcpConfig("one", port, serve(t, "127.0.0.1:0")))
	two := w.allowedProject(tcpConfig("two", port, serve(t, "127.0.0.1:0")))
	w.mustRun(one, "start")
	o := w.localport(two, "start")
	if o.code != output.ExitFailed || !strings.Contains(o.stderr, "the project of "+one) {
		t.Errorf("exit %d, %q", o.code, o.stderr)
	}
	w.mustRun(one, "stop")
	eventually(t, "the second project has the port", func() bool { return w.service(two, "two").Held })
}

func TestPorts_AutoPortIsStableAcrossRuns(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	before := w.mustRun(root, "port", "web")
	w.mustRun(root, "start")
	first := w.mustRun(root, "port", "web")
	w.mustRun(root, "stop")
	w.mustRun(root, "start")
	if second := w.mustRun(root, "port", "web"); second != first || before != first {
		t.Errorf("port %q before any start, then %q, then %q", before, first, second)
	}
}
