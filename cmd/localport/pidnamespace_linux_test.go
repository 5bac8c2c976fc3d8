package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/shellhook"
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

// siblingShell is a script that is a shell with the hook in a PID namespace of its own: before each prompt it evaluates a line that it reads, and
// then prints the project's line and port.
var siblingShell = map[string]string{
	"bash": promptCode["bash"] + `eval "$(EXE hook bash)"; cd ROOT; prompt; echo running
while IFS= read -r line; do eval "$line"; prompt; echo "${__localport_line// /-}:$WEB_PORT"; done`,
	"zsh": promptCode["zsh"] + `eval "$(EXE hook zsh)"; cd ROOT; prompt; echo running
while IFS= read -r line; do eval "$line"; prompt; echo "${__localport_line// /-}:$WEB_PORT"; done`,
	"fish": promptCode["fish"] + `EXE hook fish | source; cd ROOT; prompt; echo running
while read -l line; eval $line; prompt; echo (string replace -a ' ' - $__localport_line):$WEB_PORT; end`,
}

// The container whose supervisor a shell in another container uses ends, with the supervisor: neither sees the other's processes.
func TestPIDNamespace_PromptOfASiblingStartsAnotherSupervisor(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnv(t)
		port := ports.FreePort(t)
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		root := w.allowedProject("linger = 0.1\n" + tcpConfig("web", port, serve(t, "127.0.0.1:0")))
		first := w.startInside(t, root, containerOptions[1:])
		before, ok := w.state(root).Supervisor.VisibleProcess()
		if !ok {
			t.Fatal("the supervisor is not visible")
		}
		cmd := w.command(w.home)
		script := strings.NewReplacer("EXE", shellhook.Quote(w.exe), "ROOT", shellhook.Quote(root)).Replace(siblingShell[kind])
		cmd.Path, cmd.Args = mustLookPath(t, kind), slices.Concat([]string{kind}, scriptArgs[kind], []string{script})
		cmd = unshared(t, cmd, containerOptions[1:]...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		answers := bufio.NewReader(out)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		second := &insideProcess{cmd: cmd, in: in}
		t.Cleanup(second.close)
		prompt := func(line string) string {
			t.Helper()
			if _, err := fmt.Fprintln(in, line); err != nil {
				t.Fatal(err)
			}
			answer, err := answers.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			return strings.TrimSpace(answer)
		}
		if answer, err := answers.ReadString('\n'); answer != "running\n" {
			t.Fatalf("the shell printed %q: %v", answer, err)
		}
		for range 5 { // it does not take the supervisor that it cannot see for dead
			if answer := prompt("true"); !strings.HasSuffix(answer, fmt.Sprintf("-%d:%d", before.Start, port)) {
				t.Errorf("a prompt printed %s, want the supervisor %+v", answer, before)
			}
		}
		if now, ok := w.state(root).Supervisor.VisibleProcess(); !ok || now != before {
			t.Errorf("the supervisor is %+v, was %+v", now, before)
		}

		first.close()
		w.waitExit(before)
		advance := "SECONDS=$((SECONDS + 60))"
		if kind == "fish" {
			advance = "set -g __localport_since (math $__localport_since - 60)"
		}
		// A repeated export may take 200 ms, in which a slow machine starts no supervisor; then the next one finds it.
		answer := ""
		eventually(t, "a prompt has the port again", func() bool {
			answer = prompt(advance)
			return strings.HasSuffix(answer, fmt.Sprintf(":%d", port)) && !strings.Contains(answer, fmt.Sprintf("-%d:", before.Start))
		})
		now, ok := w.state(root).Supervisor.VisibleProcess()
		if !ok || now == before {
			t.Errorf("the supervisor is %+v, was %+v; the prompt printed %s", now, before, answer)
		}
		checkServed(t, addr)
		second.close()
		w.waitExit(now)
	})
}
