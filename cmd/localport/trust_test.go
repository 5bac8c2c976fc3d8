package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/testdata/ports"
)

// runTrue returns a line that prints nothing: in nushell, true is a value.
func runTrue(kind string) string {
	if kind == "nu" {
		return "^true"
	}
	return "true"
}

func TestTrust_NothingRunsBeforeAllow(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnv(t)
		upstream := serve(t, "127.0.0.1:0")
		root := w.project(tcpConfig("web", `"auto"`, upstream))
		sh := w.shell(kind, w.home)
		sh.Run("cd " + root)
		if out := sh.Output(); !strings.Contains(out, "is new or changed") || !strings.Contains(out, "localport allow") ||
			strings.Count(strings.TrimSpace(out), "\n") > 0 {
			t.Errorf("entering a project that is not allowed printed %q", out)
		}
		sh.Run(runTrue(kind))
		if out := sh.Output(); out != "" {
			t.Errorf("the next prompt printed %q", out)
		}
		if state := w.state(root); state.Supervisor != nil || len(state.Leases) > 0 {
			t.Errorf("the state has changed: %+v", state)
		}
		if o := w.localport(root, "start"); o.code != output.ExitNotAllowed {
			t.Errorf("start: exit %d, %s", o.code, o.stderr)
		}
		if o := w.localport(root, "exec", "--", "true"); o.code != output.ExitExecFailed {
			t.Errorf("exec: exit %d, %s", o.code, o.stderr)
		}

		w.mustRun(root, "allow")
		sh.Run(runTrue(kind))
		if out := sh.Output(); !strings.Contains(out, "web :") {
			t.Errorf("the prompt after allow printed %q", out)
		}
		w.supervisor(root)

		w.mustRun(root, "deny")
		sh.Run(runTrue(kind))
		if env := sh.Environ(); hasVariable(env, "WEB_PORT") {
			t.Error("WEB_PORT is still set after deny")
		}
		if state := w.state(root); state.Supervisor != nil {
			t.Error("the supervisor was not stopped by deny")
		}
		w.mustRun(root, "allow")
		sh.Run(runTrue(kind))
		w.supervisor(root)
	}, otherShells...)
}

func TestTrust_ChangeWaitsForAllow(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnv(t)
		upstream := serve(t, "127.0.0.1:0")
		kept, added := ports.FreePort(t), ports.FreePort(t)
		config := tcpConfig("kept", kept, upstream)
		root := w.allowedProject(config)
		sh := w.shell(kind, root)
		supervisor := w.supervisor(root)

		w.writeFile(root, ".localport.toml", config+tcpConfig("added", added, upstream))
		sh.Run(runTrue(kind))
		if out := sh.Output(); !strings.Contains(out, "changed") || !strings.Contains(out, "localport allow") {
			t.Errorf("the prompt after the change printed %q", out)
		}
		sh.Run(runTrue(kind))
		if out := sh.Output(); out != "" {
			t.Errorf("the second prompt printed %q", out)
		}
		if answer, err := ask(fmt.Sprintf("127.0.0.1:%d", kept), "you"); answer != "hello you\n" {
			t.Errorf("the old forward: %q, %v", answer, err)
		}
		if _, err := ask(fmt.Sprintf("127.0.0.1:%d", added), "you"); err == nil {
			t.Error("the new service runs without approval")
		}
		eventually(t, "status shows the pending change", func() bool { return strings.Contains(w.status(root).Pending, "localport allow") })

		w.mustRun(root, "allow")
		if answer, err := ask(fmt.Sprintf("127.0.0.1:%d", added), "you"); answer != "hello you\n" {
			t.Errorf("the new service after allow: %q, %v", answer, err)
		}
		sh.Run(runTrue(kind))
		if env := sh.Environ(); env["ADDED_PORT"] != fmt.Sprint(added) {
			t.Errorf("ADDED_PORT=%q after allow", env["ADDED_PORT"])
		}
		if w.supervisor(root) != supervisor {
			t.Error("allow replaced the supervisor")
		}
	}, otherShells...)
}

func TestReload_KeepsConnectionsOfUnchangedServices(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	upstream := serve(t, "127.0.0.1:0")
	kept, moved := ports.FreePort(t), ports.FreePort(t)
	config := tcpConfig("kept", kept, upstream)
	root := w.allowedProject(config + tcpConfig("moved", moved, upstream))
	w.mustRun(root, "start")
	conn := dial(t, fmt.Sprintf("127.0.0.1:%d", kept))

	elsewhere := ports.FreePort(t)
	w.writeFile(root, ".localport.toml", config+tcpConfig("moved", elsewhere, upstream))
	w.mustRun(root, "allow")
	if got := conn.exchangeLine("still here"); got != "hello still here\n" {
		t.Errorf("the connection that was open answered %q", got)
	}
	if answer, err := ask(fmt.Sprintf("127.0.0.1:%d", elsewhere), "you"); answer != "hello you\n" {
		t.Errorf("the moved service: %q, %v", answer, err)
	}
	if _, err := ask(fmt.Sprintf("127.0.0.1:%d", moved), "you"); err == nil {
		t.Error("the old port still answers")
	}
}

func TestReload_InvalidConfigChangesNothing(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	upstream := serve(t, "127.0.0.1:0")
	port := ports.FreePort(t)
	root := w.allowedProject(tcpConfig("web", port, upstream))
	sh := w.shell("bash", root)
	w.writeFile(root, ".localport.toml", "[services.web]\ntechnology = \"tpc\"\nlocal_port = 99999\n")
	if o := w.localport(root, "allow"); o.code != output.ExitInvalid || !strings.Contains(o.stderr, ".localport.toml:2:") || !strings.Contains(o.stderr, ".localport.toml:3:") {
		t.Errorf("allow: exit %d, %q, want both errors with their lines", o.code, o.stderr)
	}
	sh.Run("true")
	if out := sh.Output(); !strings.Contains(out, "localport: .localport.toml:2:") || !strings.Contains(out, "still using the previous config") {
		t.Errorf("the prompt printed %q, want the first error", out)
	}
	if answer, err := ask(fmt.Sprintf("127.0.0.1:%d", port), "you"); answer != "hello you\n" {
		t.Errorf("the forward: %q, %v", answer, err)
	}
	if o := w.localport(root, "config", "validate"); o.code != output.ExitInvalid || !strings.Contains(o.stderr, ":2:") {
		t.Errorf("validate: exit %d, %q", o.code, o.stderr)
	}
	w.mustRun(root, "stop")
	if o := w.localport(root, "start"); o.code != output.ExitInvalid {
		t.Errorf("start: exit %d, %q", o.code, o.stderr)
	}
}

// addWorktree makes root a git repository and returns a linked worktree of it.
func (w *testEnv) addWorktree(root string) (tree string) {
	w.t.Helper()
	tree = root + "-tree"
	for _, args := range [][]string{
		{"init", "-q"},
		{"add", "."},
		{"-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "one"},
		{"worktree", "add", "-q", tree},
	} {
		git := exec.Command("git", args...)
		git.Dir, git.Env = root, append(os.Environ(), "HOME="+w.home)
		if out, err := git.CombinedOutput(); err != nil {
			w.t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	return tree
}

// A file that a linked worktree takes from the main checkout may be created there later.
func TestWorktree_AppliesFilesThatAppearInTheMainCheckout(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	first, second := serve(t, "127.0.0.1:0"), serve(t, "127.0.0.1:0")
	config := tcpConfig("web", `"auto"`, first)
	root := w.project(config)
	w.writeFile(root, ".gitignore", ".env\n.localport.local.toml\n")
	tree := w.addWorktree(root)
	w.mustRun(root, "allow")
	w.mustRun(tree, "start")
	sh := w.shell("bash", tree)
	override := fmt.Sprintf("[services.web]\nremote_port = %d\n", second.port)
	w.writeFile(root, ".localport.local.toml", override)
	w.mustRun(root, "allow")
	eventually(t, "the override is used", func() bool { return strings.HasSuffix(w.service(tree, "web").Target, fmt.Sprint(":", second.port)) })
	sh.Run("true")
	if out := sh.Output(); strings.Contains(out, "changed") {
		t.Errorf("the prompt printed %q", out)
	}
	w.writeFile(root, ".env", "NAME=value\n")
	w.mustRun(root, "allow")
	eventually(t, "nothing is pending", func() bool { return w.document(tree).Pending == "" })
	if err := os.Remove(root + "/.localport.local.toml"); err != nil {
		t.Fatal(err)
	}
	w.mustRun(root, "allow")
	eventually(t, "the override is not used", func() bool { return strings.HasSuffix(w.service(tree, "web").Target, fmt.Sprint(":", first.port)) })
}

func TestTrust_WorktreeOfAnAllowedCheckoutHasItsOwnPorts(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	w := newTestEnv(t)
	root := w.project(tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	w.writeFile(root, ".gitignore", ".env\n")
	tree := w.addWorktree(root)
	w.writeFile(root, ".env", "SECRET=hunter2hunter2\n")
	w.mustRun(root, "allow")
	w.mustRun(tree, "start")
	w.mustRun(root, "start")
	if mainPort, treePort := w.service(root, "web").Port, w.service(tree, "web").Port; mainPort == treePort {
		t.Errorf("both checkouts have port %d", mainPort)
	}
	w.writeFile(tree, ".localport.toml", tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	w.mustRun(tree, "stop")
	if o := w.localport(tree, "start"); o.code != output.ExitNotAllowed {
		t.Errorf("a worktree whose config differs: exit %d", o.code)
	}
}

func TestReload_ChangedServiceKeepsItsPortAndWaitingClients(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port, upstream := ports.FreePort(t), serve(t, "127.0.0.1:0")
	unreachable := &server{port: ports.FreePort(t)}
	root := w.allowedProject(tcpConfig("web", port, unreachable))
	w.mustRun(root, "start", "--no-wait")
	answerCh := make(chan string, 1)
	go func() {
		got, err := ask(fmt.Sprintf("127.0.0.1:%d", port), "you")
		answerCh <- fmt.Sprint(got, err)
	}()
	eventually(t, "the client waits", func() bool { return w.service(root, "web").Connections.Waiting > 0 })
	w.writeFile(root, ".localport.toml", tcpConfig("web", port, upstream))
	w.mustRun(root, "allow")
	if got := <-answerCh; got != "hello you\n<nil>" {
		t.Errorf("the client that waited for the old upstream got %q from the new one", got)
	}
}
