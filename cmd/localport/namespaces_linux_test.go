package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/shellhook"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/shellpty"
)

// unshareArgs returns the command line of unshare with these options. With a new network namespace, its loopback interface is up.
func unshareArgs(t *testing.T, options ...string) []string {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "unshare", append(options, "true")...).CombinedOutput(); err != nil {
		t.Skipf("unshare %s (Debian: util-linux; it needs root) is not possible: %v: %s", strings.Join(options, " "), err, out)
	}
	args := append([]string{mustLookPath(t, "unshare")}, options...)
	if strings.Contains(strings.Join(options, " "), "--net") {
		args = append(args, "sh", "-c", `ip link set lo up && exec "$0" "$@"`)
	}
	return args
}

// unshared makes a command run in new namespaces.
func unshared(t *testing.T, cmd *exec.Cmd, options ...string) *exec.Cmd {
	t.Helper()
	args := unshareArgs(t, options...)
	cmd.Args, cmd.Path = append(append(args, cmd.Path), cmd.Args[1:]...), args[0]
	return cmd
}

// containerOptions are those of namespaces as an ordinary container has.
var containerOptions = []string{"--net", "--pid", "--fork", "--kill-child", "--mount-proc"}

const otherNetworkText = "localport: the supervisor runs in another network namespace: its ports cannot be reached from here"

func TestNetworkNamespace_OfAContainerGetsNoVariables(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		options []string
		hint    string
	}{
		{"net", []string{"--net"}, `"localport daemon restart" moves the supervisor here`},
		{"container", containerOptions, "run it outside of this container or sandbox, or give that the supervisor's network (docker run --network=host)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t)
			port := ports.FreePort(t)
			root := w.allowedProject(tcpConfig("web", port, serve(t, "127.0.0.1:0")) + "[env]\nURL = \"http://${web.addr}\"\n")
			w.mustRun(root, "start")
			before := w.supervisor(root)
			want := otherNetworkText + "\nhint: " + tt.hint + "\n"
			for _, command := range []string{"env", "env --json", "port web", "lease", "env --lease", "exec -- echo run"} {
				code := output.ExitFailed
				if strings.HasPrefix(command, "exec") {
					code = output.ExitExecFailed
				}
				cmd := w.command(root, strings.Fields(command)...)
				cmd.Args = append([]string{"sh", "-c", `sleep 60 & LOCALPORT_LEASE_PID=$! "$@"; code=$?; kill $!; exit $code`, "sh", cmd.Path}, cmd.Args[1:]...)
				cmd.Path = mustLookPath(t, "sh")
				if o := w.run(unshared(t, cmd, tt.options...)); o.code != code || o.stdout != "" || o.stderr != want {
					t.Errorf("%s: exit %d\n%s%s", command, o.code, o.stdout, o.stderr)
				}
			}
			if o := w.run(unshared(t, w.command(root, "status"), tt.options...)); o.code != 0 || !strings.Contains(o.stdout, "warning: "+strings.TrimPrefix(otherNetworkText, "localport: ")) {
				t.Errorf("status: exit %d\n%s%s", o.code, o.stdout, o.stderr)
			}
			if now := w.state(root); len(now.Leases) != 1 || now.Leases[0].Kind != lockstate.StartLease || now.Supervisor.Process != before {
				t.Errorf("the state is %+v", now)
			}
			checkServed(t, fmt.Sprintf("127.0.0.1:%d", port))
			if tt.name == "container" { // a shell on a pseudo-terminal is driven by its pid
				return
			}
			sh := shellpty.Start(t, shellpty.Config{
				Shell: "bash", RC: `eval "$(` + w.exe + ` hook bash)"`, Dir: root, Home: w.home, Env: w.env[2:],
				Wrap: unshareArgs(t, tt.options...),
			})
			said := sh.Screen()
			sh.Run("true")
			said += sh.Screen()
			if env := sh.Environ(); hasVariable(env, "WEB_PORT") || hasVariable(env, "URL") || hasVariable(env, "LOCALPORT_DIFF") {
				t.Errorf("the shell has the variables %v", env)
			}
			if strings.Count(said, otherNetworkText+"; "+tt.hint) != 1 || strings.Count(said, "localport:") != 1 {
				t.Errorf("the shell said %q", said)
			}
			if leases := w.state(root).Leases; len(leases) != 1 {
				t.Errorf("the leases are %+v", leases)
			}
		})
	}
}

// The project was started in a container: a command outside moves it out, because the container cannot be told to.
func TestNetworkNamespace_DaemonRestartMovesTheSupervisorHere(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]string{"net": {"--net"}, "container": containerOptions} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t)
			port := ports.FreePort(t)
			addr := fmt.Sprintf("127.0.0.1:%d", port)
			root := w.allowedProject("linger = 0.1\n" + commandConfig(t, "web", port))
			inside := w.startInside(t, root, options)
			before, ok := w.state(root).Supervisor.VisibleProcess()
			if !ok {
				t.Fatal("the supervisor is not visible")
			}
			want := otherNetworkText + "\nhint: \"localport daemon restart\" moves the supervisor here\n"
			if o := w.localport(root, "env"); o.code != output.ExitFailed || o.stderr != want {
				t.Errorf("env: exit %d\n%s%s", o.code, o.stdout, o.stderr)
			}
			if o := w.localport(root, "exec", "--", "true"); o.code != output.ExitExecFailed || o.stderr != want {
				t.Errorf("exec: exit %d\n%s%s", o.code, o.stdout, o.stderr)
			}
			w.mustRun(root, "daemon", "restart")
			w.waitExit(before)
			if out := w.mustRun(root, "exec", "--", "sh", "-c", "echo $WEB_PORT"); out != fmt.Sprintln(port) {
				t.Errorf("exec printed %q", out)
			}
			checkServed(t, addr)
			inside.close()
			w.stopProject(root, addr)
		})
	}
}

// insideProcess is a process in other namespaces that has a lease.
type insideProcess struct {
	cmd *exec.Cmd
	in  io.WriteCloser
}

// writeLine ends the process's first read.
func (p *insideProcess) writeLine(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(p.in, "\n"); err != nil {
		t.Fatal(err)
	}
}

// ageLeases has all leases of a project look as if they had been taken an hour ago.
func (w *testEnv) ageLeases(t *testing.T, root string) {
	t.Helper()
	release := w.holdLock(root)
	defer release()
	path := filepath.Join(w.stateDir(root), "state.json")
	data, err := os.ReadFile(path)
	if err == nil {
		since := regexp.MustCompile(`("since":")\d{4}`)
		data = regexp.MustCompile(`"leases":\[[^]]*`).ReplaceAllFunc(data, func(leases []byte) []byte { return since.ReplaceAll(leases, []byte("${1}2001")) })
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// startInside starts the project with a command in new namespaces that runs until close, or until the test ends.
func (w *testEnv) startInside(t *testing.T, root string, options []string) *insideProcess {
	t.Helper()
	return w.startCommand(t, unshared(t, w.command(root, "exec", "--", "sh", "-c", "echo running; read line"), options...))
}

// startInsideShell runs a script in a new PID namespace, which ends with it. $0 is localport. It must print a line when it has a lease.
func (w *testEnv) startInsideShell(t *testing.T, root, script string) *insideProcess {
	t.Helper()
	cmd := w.command(root)
	cmd.Path, cmd.Args = mustLookPath(t, "sh"), []string{"sh", "-c", script, w.exe}
	return w.startCommand(t, unshared(t, cmd, containerOptions[1:]...))
}

// startCommand starts a command and waits until it has printed a line.
func (w *testEnv) startCommand(t *testing.T, cmd *exec.Cmd) *insideProcess {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &insideProcess{cmd: cmd, in: in}
	t.Cleanup(p.close)
	if _, err := fmt.Fscanln(out, new(string)); err != nil {
		p.close()
		t.Fatalf("%v: %s", err, stderr.String())
	}
	return p
}

func (p *insideProcess) close() {
	_ = p.in.Close()
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Wait()
	}
}

// A supervisor in a PID namespace ends with it: an exec outside must not lose its ports then.
func TestPIDNamespace_ExecOutsideMovesTheSupervisorOut(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	root := w.allowedProject("linger = 0.1\n" + tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	inside := w.startInside(t, root, containerOptions[1:])
	before, ok := w.state(root).Supervisor.VisibleProcess()
	if !ok || !w.state(root).Supervisor.IsForeign() {
		t.Fatalf("the supervisor is %+v", w.state(root).Supervisor)
	}
	conn := dial(t, addr)
	conn.exchangeLine("hi")
	clients := startGreetingClients(clientInterval, addr)
	outside := w.startInside(t, root, []string{"--uts"})
	if got := conn.exchangeLine("still there?"); got != "hello still there?\n" {
		t.Errorf("an established connection answers %q", got)
	}
	conn.conn.Close()
	w.waitExit(before)
	if w.state(root).Supervisor.IsForeign() {
		t.Error("the supervisor still runs in the namespace")
	}
	w.supervisor(root)
	if leases := w.status(root).Leases; len(leases) != 2 {
		t.Errorf("the leases are %+v", leases)
	}
	inside.close()
	eventually(t, "the lease of the namespace ends with it", func() bool { return len(w.status(root).Leases) == 1 })
	checkServed(t, addr)
	results := clients.stop()
	if refused, failed := countRefused(results, results[0].startTime); refused+failed > 0 {
		t.Errorf("%d of %d clients were refused, %d failed", refused, len(results), failed)
	}
	after := w.supervisor(root)
	outside.close()
	w.waitExit(after)
	w.checkNothingLeft(root, addr)
}

func TestPIDNamespace_CommandsOutsideControlASupervisorInside(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"stop", "daemon stop", "deny", "stop web", "restart", "start", "daemon restart"} {
		t.Run(strings.ReplaceAll(command, " ", "_"), func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t)
			port := ports.FreePort(t)
			addr := fmt.Sprintf("127.0.0.1:%d", port)
			root := w.allowedProject("linger = 0.1\n" + tcpConfig("web", port, serve(t, "127.0.0.1:0")))
			inside := w.startInside(t, root, containerOptions[1:])
			before, ok := w.state(root).Supervisor.VisibleProcess()
			if !ok {
				t.Fatal("the supervisor is not visible")
			}
			w.mustRun(root, strings.Fields(command)...)
			w.waitExit(before)
			switch command {
			case "stop", "daemon stop", "deny":
				if state := w.state(root); state.Supervisor != nil || state.Down != (command != "deny") {
					t.Errorf("the state is %+v", state)
				}
				inside.close()
				w.mustRun(root, "allow")
				w.mustRun(root, "start") // counts the leases again
			case "stop web":
				if svc := w.service(root, "web"); svc.Held || svc.State != "stopped" {
					t.Errorf("web is %+v", svc)
				}
			default:
				checkServed(t, addr)
				if w.state(root).Supervisor.IsForeign() {
					t.Error("the supervisor still runs in the namespace")
				}
			}
			inside.close()
			w.stopProject(root, addr)
		})
	}
}

// In another mount or user namespace a path may mean another file, or a program have other rights.
func TestMountNamespace_MayUseButNotChangeTheSupervisor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind    string
		options []string
	}{
		{"mount", []string{"--mount"}},
		{"user", []string{"--user", "--map-root-user"}},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t)
			port := ports.FreePort(t)
			root := w.allowedProject(tcpConfig("web", port, serve(t, "127.0.0.1:0")))
			w.mustRun(root, "start")
			before, state := w.supervisor(root), w.state(root)
			enter := fmt.Sprintf("nsenter --target %d --mount localport -C %s ", before.PID, shellhook.Quote(root))
			hint := "run the command outside of this container or sandbox"
			if tt.kind == "mount" {
				hint = "run the command in a shell of the supervisor's namespaces, or as root: " + enter + "COMMAND"
			}
			want := fmt.Sprintf("localport: the supervisor runs in another %s namespace: from here its services can be used, but not changed\nhint: %s\n", tt.kind, hint)
			for _, command := range []string{"stop", "stop web", "deny", "start", "restart", "login", "daemon stop", "daemon restart"} {
				if o := w.run(unshared(t, w.command(root, strings.Fields(command)...), tt.options...)); o.code != output.ExitFailed || o.stderr != want {
					t.Errorf("%s: exit %d\n%s", command, o.code, o.stderr)
				}
			}
			if o := w.run(unshared(t, w.withRelease("99.0.0").command(root, "exec", "--", "sh", "-c", "echo $WEB_PORT"), tt.options...)); o.code != 0 || o.stdout != fmt.Sprintln(port) {
				t.Errorf("exec: exit %d\n%s%s", o.code, o.stdout, o.stderr)
			}
			if o := w.run(unshared(t, w.command(root, "status"), tt.options...)); o.code != 0 || !strings.Contains(o.stdout, "web") {
				t.Errorf("status: exit %d\n%s%s", o.code, o.stdout, o.stderr)
			}
			if now := w.state(root); w.supervisor(root) != before || now.Down || len(now.Leases) == 0 || now.Leases[0] != state.Leases[0] {
				t.Errorf("the state is %+v, was %+v", now, state)
			}
			checkServed(t, fmt.Sprintf("127.0.0.1:%d", port))

			if tt.kind != "mount" {
				return
			}
			cmd := exec.Command(mustLookPath(t, "sh"), "-c", strings.Replace(enter, " localport ", " "+w.exe+" ", 1)+"stop")
			cmd.Env = w.env
			if o := w.run(unshared(t, cmd, tt.options...)); o.code != 0 {
				t.Errorf("%s: exit %d\n%s", enter, o.code, o.stderr)
			}
			w.waitExit(before)
		})
	}
}

// The server decides by what the kernel says of its peer, not by what a client reads or says.
func TestMountNamespace_IsRefusedByTheSupervisorItself(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	before, socket := w.supervisor(root), w.state(root).Supervisor.Socket
	for path, body := range map[string]string{
		"act": `{"action":"restart","names":["web"]}`, "end": "{}", "replace": `{"exe":"/bin/true","version":"99.0.0"}`, "login": `{"names":["web"]}`,
		"yield": `{"addresses":[]}`,
	} {
		cmd := exec.Command(mustLookPath(t, "curl"), "-sS", "--unix-socket", socket, "-d", body, "http://localport/v1/"+path)
		if o := w.run(unshared(t, cmd, "--mount")); !strings.Contains(o.stdout, `"foreign":true`) || !strings.Contains(o.stdout, `"namespaces":["mount"]`) {
			t.Errorf("%s: %s%s", path, o.stdout, o.stderr)
		}
	}
	if now := w.supervisor(root); now != before {
		t.Errorf("the supervisor is %+v, was %+v", now, before)
	}
	if svc := w.service(root, "web"); svc.Restarts != 0 {
		t.Errorf("web was restarted: %+v", svc)
	}
}

// The container whose supervisor a command in another container uses ends, with the supervisor: the command has its forwards again.
func TestPIDNamespace_ExecKeepsItsForwardsWhenASiblingEnds(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"ends", "is killed"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t)
			port := ports.FreePort(t)
			addr := fmt.Sprintf("127.0.0.1:%d", port)
			root := w.allowedProject("linger = 0.1\n" + tcpConfig("web", port, serve(t, "127.0.0.1:0")))
			first := w.startInside(t, root, containerOptions[1:])
			// The first process of the namespace outlives the lease, and the supervisor with it.
			second := w.startInsideShell(t, root, `"$0" exec -- sh -c "echo running; read line"; read line`)
			before := *w.state(root).Supervisor
			supervisor, ok := before.VisibleProcess()
			if !ok {
				t.Fatal("the supervisor is not visible")
			}
			if how == "is killed" {
				if err := first.cmd.Process.Kill(); err != nil { // the namespace ends with it
					t.Fatal(err)
				}
			}
			first.close()
			w.waitExit(supervisor)
			eventually(t, "there is a supervisor in the second container", func() bool {
				recorded := w.state(root).Supervisor
				if recorded == nil {
					return false
				}
				_, isVisible := recorded.VisibleProcess()
				return isVisible && recorded.PIDNamespace != before.PIDNamespace
			})
			eventually(t, "clients are served again", func() bool {
				answer, _ := ask(addr, "you")
				return answer == "hello you\n"
			})
			w.ageLeases(t, root) // that of the container which has ended counts for a minute
			w.run(unshared(t, w.command(root, "exec", "--", "true"), containerOptions[1:]...))
			eventually(t, "only the second lease is left", func() bool { return len(w.state(root).Leases) == 1 })
			after, _ := w.state(root).Supervisor.VisibleProcess()
			second.writeLine(t)
			w.waitExit(after)
			w.checkNothingLeft(root, addr)
			second.close()
		})
	}
}

// Containers that share the home directory and the network do not see each other's processes.
func TestPIDNamespace_LeaseOfASiblingCountsWhileItsProcessRuns(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"process ends", "supervisor was killed"} {
		t.Run(strings.ReplaceAll(end, " ", "_"), func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t)
			port := ports.FreePort(t)
			addr := fmt.Sprintf("127.0.0.1:%d", port)
			root := w.allowedProject("linger = 0.1\n" + tcpConfig("web", port, serve(t, "127.0.0.1:0")))
			// The first process of the namespace outlives the lease, and the supervisor with it.
			first := w.startInsideShell(t, root, `"$0" exec -- sh -c "echo running; read line"; read line`)
			second := w.startInside(t, root, containerOptions[1:])
			supervisor, ok := w.state(root).Supervisor.VisibleProcess()
			if !ok {
				t.Fatal("the supervisor is not visible")
			}
			if end == "supervisor was killed" {
				eventually(t, "the keeper is recorded", func() bool { return w.state(root).Supervisor.Keeper > 0 })
				kill(t, supervisor.PID)
				eventually(t, "the keeper starts another supervisor", func() bool {
					recorded := w.state(root).Supervisor
					if recorded == nil {
						return false
					}
					next, ok := recorded.VisibleProcess()
					isNext := ok && next != supervisor
					if isNext {
						supervisor = next
					}
					return isNext
				})
			}
			first.writeLine(t)
			eventually(t, "only the second lease is left", func() bool { return len(w.state(root).Leases) == 1 })
			namespace := w.state(root).Leases[0].PIDNamespace
			w.ageLeases(t, root)
			w.run(unshared(t, w.command(root, "exec", "--", "true"), containerOptions[1:]...))
			eventually(t, "the supervisor has counted the leases again", func() bool {
				return !slices.ContainsFunc(w.state(root).Leases, func(l lockstate.Lease) bool { return l.PIDNamespace != namespace })
			})
			if leases := w.state(root).Leases; len(leases) != 1 || time.Since(leases[0].Since) < time.Minute {
				t.Fatalf("the leases are %+v, want that of the second process, as old as if it had expired", leases)
			}
			checkServed(t, addr)
			second.close() // its lease would count for a minute
			w.waitExit(supervisor)
			w.checkNothingLeft(root, addr)
			first.close()
		})
	}
}
