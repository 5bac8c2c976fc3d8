package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/testdata/ports"
)

// sandboxed makes a command run in another PID namespace with the same files, as in a container or sandbox.
func sandboxed(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	args := []string{"unshare", "--pid", "--fork", "--kill-child", "--mount-proc"}
	if os.Geteuid() != 0 {
		args = append(args, "--user", "--map-current-user")
	}
	if out, err := exec.CommandContext(t.Context(), args[0], append(args[1:], "true")...).CombinedOutput(); err != nil {
		t.Skipf("unshare --pid (Debian: util-linux; a user other than root needs user namespaces) is not possible: %v: %s", err, out)
	}
	cmd.Args, cmd.Path = append(append(args, cmd.Path), cmd.Args[1:]...), mustLookPath(t, args[0])
	return cmd
}

// From another PID namespace every process of this one looks dead.
func TestPIDNamespace_ExecInASandboxDoesNotEndTheForwards(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	root := w.allowedProject("linger = \"100ms\"\n" + tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	sh := w.shell("bash", root)
	before := w.supervisor(root)
	if o := w.run(sandboxed(t, w.command(root, "exec", "--", "sh", "-c", "echo $WEB_PORT"))); o.stdout != fmt.Sprintln(port) {
		t.Fatalf("exec: exit %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	w.mustRun(root, "exec", "--", "true") // after it, the leases are counted again
	if leases := w.status(root).Leases; len(leases) != 1 || leases[0].PID != sh.PID() {
		t.Fatalf("the leases are %+v, want that of the shell %d", leases, sh.PID())
	}

	// The lease of a process in a sandbox counts for as long as the process runs.
	cmd := sandboxed(t, w.command(root, "exec", "--", "sh", "-c", "echo running; read line; exit 3"))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	if _, err := fmt.Fscanln(out, new(string)); err != nil {
		t.Fatal(err)
	}
	sh.Run("cd /")
	eventually(t, "the shell's lease is released", func() bool { return len(w.status(root).Leases) == 1 })
	w.mustRun(root, "exec", "--", "true")
	if now := w.supervisor(root); now != before {
		t.Errorf("the supervisor is %+v, was %+v", now, before)
	}
	if answer, err := ask(addr, "you"); answer != "hello you\n" {
		t.Errorf("through the forward: %q, %v", answer, err)
	}
	in.Close()
	_ = cmd.Wait()
	w.waitExit(before)
	w.checkNothingLeft(root, addr)
}

func TestPIDNamespace_ASandboxMayUseButNotChangeTheSupervisor(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	root := w.allowedProject(tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	before, state := w.supervisor(root), w.state(root)
	kinds := "mount and PID"
	if os.Geteuid() != 0 {
		kinds = "user, mount and PID"
	}
	want := "localport: the supervisor runs in other " + kinds + " namespaces: from here its services can be used, but not changed\n" +
		"hint: run the command outside of this container or sandbox\n"
	for _, command := range []string{"stop", "stop web", "deny", "start", "restart", "login", "daemon stop", "daemon restart"} {
		if o := w.run(sandboxed(t, w.command(root, strings.Fields(command)...))); o.code != output.ExitFailed || o.stderr != want {
			t.Errorf("%s: exit %d\n%s", command, o.code, o.stderr)
		}
	}
	if o := w.run(sandboxed(t, w.withRelease("99.0.0").command(root, "exec", "--", "true"))); o.code != 0 { // a newer release
		t.Errorf("exec: exit %d\n%s", o.code, o.stderr)
	}
	if o := w.run(sandboxed(t, w.command(root, "status"))); o.code != 0 || !strings.Contains(o.stdout, "web") {
		t.Errorf("status: exit %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	if now := w.supervisor(root); now != before {
		t.Errorf("the supervisor is %+v, was %+v", now, before)
	}
	if now := w.state(root); !slices.Contains(now.Leases, state.Leases[0]) || now.Down {
		t.Errorf("the state is %+v, was %+v", now, state)
	}
	if answer, err := ask(fmt.Sprintf("127.0.0.1:%d", port), "you"); answer != "hello you\n" {
		t.Errorf("through the forward: %q, %v", answer, err)
	}
}

// A sandbox that does not see the supervisor's socket must not advise to replace the supervisor.
func TestPIDNamespace_ASandboxWithoutTheSocketNamesItsDirectory(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t).withPromptLimit("2s")
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	cmd := w.command(root, "exec", "--", "true")
	dir := w.home + "/runtime"
	cmd.Args = append([]string{"sh", "-c", `mount -t tmpfs none "$0" && exec "$@"`, dir, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = mustLookPath(t, "sh")
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a file system in the sandbox")
	}
	want := "localport: the supervisor's socket " + w.state(root).Supervisor.Socket + " is not visible here\n" +
		"hint: make " + dir + "/localport visible in this container or sandbox, or run the command outside of it\n"
	if o := w.run(sandboxed(t, cmd)); o.code != output.ExitExecFailed || o.stderr != want {
		t.Errorf("exit %d\n%s", o.code, o.stderr)
	}
}
