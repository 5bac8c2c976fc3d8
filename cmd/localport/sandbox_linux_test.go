package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/shellpty"
)

// runWithoutUnixSockets installs a seccomp filter that refuses socket(AF_UNIX, …), and executes the arguments.
func runWithoutUnixSockets() int {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},                              // seccomp_data.nr
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_SOCKET, Jt: 0, Jf: 3}, // another call: allow
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 16},                             // the first argument
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.AF_UNIX, Jt: 0, Jf: 1},    // another family: allow
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},  //
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},                       //
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_ = os.Unsetenv(refuseVariable)
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "no_new_privs:", err)
		return 1
	}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program))); errno != 0 {
		fmt.Fprintln(os.Stderr, "seccomp:", errno)
		return 1
	}
	fmt.Fprintln(os.Stderr, syscall.Exec(os.Args[1], os.Args[1:], os.Environ()))
	return 1
}

// sandbox is a way to keep a process from the supervisor's socket.
type sandbox struct {
	name      string
	wrap      func(w *testEnv) []string // a command line to which another is appended
	env       string
	text      string // of the error, about a socket
	hint      string // about its directory
	canChange bool   // it is in the supervisor's namespaces
}

func sandboxes(t *testing.T) []sandbox {
	t.Helper()
	all := []sandbox{{
		name: "refused", wrap: func(w *testEnv) []string { return []string{w.exe} }, env: refuseVariable + "=1",
		text: "this process may not connect to the supervisor at %s: socket: operation not permitted",
		hint: "allow unix sockets in this sandbox, or run the command outside of it%.0s", canChange: true,
	}}
	if os.Geteuid() != 0 {
		t.Log("a sandbox that hides the runtime directory needs a mount, which only root can make: that part is run as root only")
		return all
	}
	hide := func(options ...string) func(w *testEnv) []string {
		return func(w *testEnv) []string {
			args := append([]string{mustLookPath(t, "unshare")}, options...)
			return append(args, "sh", "-c", `mount -t tmpfs none "$0" && exec "$@"`, w.home+"/runtime")
		}
	}
	const text, hint = "the supervisor's socket %s is not visible here", "make %s visible in this container or sandbox, or run the command outside of it"
	return append(all,
		sandbox{name: "hidden", wrap: hide("--mount"), text: text, hint: hint},
		sandbox{name: "hidden in a container", wrap: hide("--mount", "--pid", "--fork", "--kill-child", "--mount-proc"), text: text, hint: hint})
}

func (s sandbox) command(w *testEnv, dir string, args ...string) *exec.Cmd {
	argv := append(append(s.wrap(w), w.exe), args...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, append(s.environ(), w.env...)
	return cmd
}

func (s sandbox) environ() []string {
	if s.env == "" {
		return nil
	}
	return []string{s.env}
}

// A sandbox from which the supervisor cannot be asked: what the state file has is printed, and nothing waits for an answer.
func TestSandbox_StateFileAnswers(t *testing.T) {
	t.Parallel()
	for _, s := range sandboxes(t) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t).withPromptLimit("1h") // a command that waits for an answer does not return
			port, taken := ports.FreePort(t), serve(t, "127.0.0.1:0")
			root := w.allowedProject(tcpConfig("web", port, taken) + tcpConfig("other", taken.port, taken) + "optional = true\n[env]\nURL = \"http://${web.addr}\"\nTOKEN = \"x\"\n")
			w.mustRun(root, "start", "web")
			w.mustRun(root, "start", "--no-wait", "other")
			before := w.supervisor(root)
			socket := w.state(root).Supervisor.Socket
			eventually(t, "the services are recorded", func() bool {
				recorded := w.state(root).Supervisor
				return recorded != nil && len(recorded.Services) == 2 && recorded.Services[0].Held && !recorded.Services[1].Held
			})
			text, hint := fmt.Sprintf(s.text, socket), fmt.Sprintf(s.hint, w.home+"/runtime/localport")

			o := w.run(s.command(w, root, "status", "--json"))
			var status api.Status
			if err := json.Unmarshal([]byte(o.stdout), &status); o.code != 0 || err != nil {
				t.Fatalf("status --json: exit %d, %v\n%s%s", o.code, err, o.stdout, o.stderr)
			}
			if status.State != api.StateRunning || status.RecordedAt == nil || len(status.Services) != 2 || !status.Services[0].Held ||
				status.Services[0].Port != port || status.Services[1].Held || status.Services[0].State != unknownState {
				t.Errorf("status --json printed %s", o.stdout)
			}
			if o := w.run(s.command(w, root, "status")); o.code != 0 || !strings.Contains(o.stdout, fmt.Sprintf("127.0.0.1:%d", port)) ||
				!strings.Contains(o.stdout, "warning: "+text+"; the services are those of the state file, recorded ") {
				t.Errorf("status: exit %d\n%s%s", o.code, o.stdout, o.stderr)
			}
			if o := w.run(s.command(w, root, "port", "web")); o.code != 0 || o.stdout != fmt.Sprintln(port) {
				t.Errorf("port web: exit %d\n%s%s", o.code, o.stdout, o.stderr)
			}
			if o := w.run(s.command(w, root, "port", "other")); o.code != output.ExitFailed || o.stdout != "" || !strings.Contains(o.stderr, "according to the state file of ") {
				t.Errorf("port other: exit %d\n%s%s", o.code, o.stdout, o.stderr)
			}
			o = w.run(s.command(w, root, "env", "--format", "dotenv"))
			if o.code != output.ExitFailed || o.stdout != fmt.Sprintf("WEB_HOST=127.0.0.1\nWEB_PORT=%d\n", port) {
				t.Errorf("env: exit %d\n%s%s", o.code, o.stdout, o.stderr)
			}
			for _, want := range []string{
				"warning: " + text, `no variables for service "other": its port is not open`, "omitted URL, TOKEN of [env]: the state file has no values\nhint: " + hint + "\n",
			} {
				if !strings.Contains(o.stderr, want) {
					t.Errorf("env printed %q, want %q", o.stderr, want)
				}
			}
			want := "localport: " + text + "\nhint: " + hint + "\n"
			if o := w.run(s.command(w, root, "exec", "--", "true")); o.code != output.ExitExecFailed || o.stderr != want {
				t.Errorf("exec: exit %d\n%s%s", o.code, o.stdout, o.stderr)
			}
			if s.canChange {
				for _, command := range []string{"stop", "restart", "daemon restart"} {
					if o := w.run(s.command(w, root, strings.Fields(command)...)); o.code != output.ExitFailed || o.stderr != want {
						t.Errorf("%s: exit %d\n%s%s", command, o.code, o.stdout, o.stderr)
					}
				}
			}
			if now := w.state(root); w.supervisor(root) != before || now.Down || len(now.Leases) != 1 {
				t.Errorf("the state is %+v", now)
			}
			checkServed(t, fmt.Sprintf("127.0.0.1:%d", port))
		})
	}
}

func TestSandbox_PromptPrintsOneLineOnce(t *testing.T) {
	t.Parallel()
	for _, s := range sandboxes(t) {
		if strings.Contains(s.name, "container") {
			continue // a shell on a pseudo-terminal is driven by its pid
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t).withPromptLimit("1h") // a command that waits for an answer does not return
			root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
			w.mustRun(root, "start")
			want := "localport: " + fmt.Sprintf(s.text, w.state(root).Supervisor.Socket) + "; " + fmt.Sprintf(s.hint, w.home+"/runtime/localport")
			sh := shellpty.Start(t, shellpty.Config{
				Shell: "bash", RC: `eval "$(` + w.exe + ` hook bash)"`, Dir: root, Home: w.home, Env: append(s.environ(), w.env[2:]...), Wrap: s.wrap(w),
			})
			said := sh.Screen()
			sh.Run("true")
			said += sh.Screen()
			if strings.Count(said, want) != 1 || strings.Count(said, "localport:") != 1 {
				t.Errorf("the shell said %q, want %q once", said, want)
			}
			if env := sh.Environ(); hasVariable(env, "WEB_PORT") {
				t.Error("the shell has variables")
			}
			if leases := w.state(root).Leases; len(leases) != 1 {
				t.Errorf("the leases are %+v", leases)
			}
		})
	}
}
