package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/testdata/fakekubectl"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/sshd"
)

// banner is what a server sends first, as databases and mail servers do.
const banner = "220 ready"

func sendBanner(conn net.Conn) { fmt.Fprintln(conn, banner) }

// serveBanner starts a server that sends the banner and closes the connection. Its port stays free when it is closed.
func serveBanner(t testing.TB) *server {
	t.Helper()
	return startServer(t, fmt.Sprintf("127.0.0.1:%d", ports.FreePort(t)), sendBanner)
}

// sshConfig returns a service that reaches a port on the localhost of an sshd.
func sshConfig(name string, port any, host *sshd.Server, remote int) string {
	return fmt.Sprintf("[services.%s]\ntechnology = \"ssh\"\nlocal_port = %v\nremote_port = %d\n"+
		"connection = { host = %q, port = %d, user = %q, config_file = %q, remote_host = \"127.0.0.1\" }\n",
		name, port, remote, host.Host, host.Port, host.User, host.ConfigFile)
}

func TestSSH_NoClientIsLostWhenSSHOrItsSessionIsKilled(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	host := sshd.Start(t)
	port := ports.FreePort(t)
	root := w.allowedProject(sshConfig("mail", port, host, serveBanner(t).port))
	sh := w.shell("bash", root)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	if got, err := readAll(addr); got != banner { // the first client, before ssh has connected
		t.Fatalf("%q, %v", got, err)
	}
	clients := startClientStream(clientInterval, func() error {
		got, err := readAll(addr)
		if got == banner {
			return nil // if the tunnel dies after the answer, err is a reset
		}
		return fmt.Errorf("got %q, %w", got, err)
	})
	countAnswered := func() int { return clients.count(func(err error) bool { return err == nil }) }
	for round := range 3 {
		answered := countAnswered()
		eventually(t, "clients are answered", func() bool { return countAnswered() > answered+10 })
		if round == 1 {
			host.Kill()
			host.Restart()
			continue
		}
		for _, child := range findChildren(t, w.supervisor(root).PID) {
			_ = syscall.Kill(child.PID, syscall.SIGKILL)
		}
	}
	answered := countAnswered()
	eventually(t, "clients are answered", func() bool { return countAnswered() > answered+10 })
	results := clients.stop()
	svc := w.service(root, "mail")
	// A client that was slow to look at its new connection may find it reset, although it has been answered: its tunnel has died since. So it is not
	// lost if as many answers were sent as there are clients.
	answers := svc.Connections.BytesOut / uint64(len(banner+"\n"))
	for _, err := range results {
		op, isNetError := errors.AsType[*net.OpError](err)
		isResetLate := isNetError && op.Op == "dial" && errors.Is(err, syscall.ECONNRESET) && answers == uint64(len(results)+1)
		if err != nil && !isResetLate {
			t.Errorf("of %d clients, with %d answers, one was lost: %v", len(results)+1, answers, err)
		}
	}
	if svc.Restarts < 3 {
		t.Errorf("%d restarts, want 3 at least", svc.Restarts)
	}
	t.Logf("%d clients, %d restarts, %d waited, %d replays", len(results), svc.Restarts, svc.Connections.Waited, svc.Connections.Replays)
	sh.Exit("exit")
}

func TestSSH_RefusingUpstreamIsUnhealthyAndKeepsTheTunnel(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	host := sshd.Start(t)
	remote, port := ports.FreePort(t), ports.FreePort(t)
	root := w.allowedProject(sshConfig("late", port, host, remote))
	w.mustRun(root, "start", "--no-wait")
	eventually(t, "it is unhealthy", func() bool { return w.service(root, "late").State == forwarder.Unhealthy })
	svc := w.service(root, "late")
	if !strings.Contains(svc.LastError, "onnection refused") || svc.Restarts != 0 {
		t.Errorf("last error %q, %d restarts", svc.LastError, svc.Restarts)
	}

	// A client that connects now and sends first waits until the upstream listens.
	answerCh := make(chan string, 1)
	go func() {
		got, err := ask(fmt.Sprintf("127.0.0.1:%d", port), "you")
		answerCh <- fmt.Sprint(got, err)
	}()
	eventually(t, "the client waits", func() bool { return w.service(root, "late").Connections.Waiting > 0 })
	serve(t, fmt.Sprintf("127.0.0.1:%d", remote))
	if got := <-answerCh; got != "hello you\n<nil>" {
		t.Errorf("the client that waited got %q", got)
	}
	eventually(t, "it is healthy", func() bool { return w.service(root, "late").State == forwarder.Healthy })
	if svc := w.service(root, "late"); svc.Restarts != 0 || svc.LastError != "" {
		t.Errorf("then %d restarts, last error %q", svc.Restarts, svc.LastError)
	}
}

func TestSSH_ChangedHostKeyFailsAtOnce(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	host := sshd.Start(t)
	root := w.allowedProject(sshConfig("db", `"auto"`, host, serveBanner(t).port))
	host.NewHostKey()
	o := w.localport(root, "start")
	svc := w.service(root, "db")
	if o.code != output.ExitFailed || svc.State != forwarder.Failed || !strings.Contains(svc.LastError, "CHANGED") {
		t.Errorf("exit %d; %s: %q\n%s", o.code, svc.State, svc.LastError, o.stderr)
	}
	if got, err := readAll(svc.Address); err == nil && got != "" {
		t.Errorf("a client got %q", got)
	}
}

func TestKubernetes_ServiceAnswersAndSurvivesItsPod(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	upstream := serveBanner(t)
	kubectl := fakekubectl.Install(t, fakekubectl.Script{Backend: upstream.addr})
	w.env = append(w.env, "PATH="+kubectl.Dir+":"+os.Getenv("PATH"), "LOCALPORT_KUBECTL=kubectl", fakekubectl.ScriptVariable+"="+filepath.Join(kubectl.Dir, "script.json"))
	port := ports.FreePort(t)
	root := w.allowedProject(fmt.Sprintf("[services.db]\ntechnology = \"kubectl\"\nlocal_port = %d\nremote_port = 5432\n"+
		"connection = { resource_name = \"postgres\", namespace = \"shop\", context = \"staging\" }\n", port))
	w.mustRun(root, "start")
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	if got, err := readAll(addr); got != banner {
		t.Fatalf("%q, %v", got, err)
	}
	if target := w.service(root, "db").Target; !strings.Contains(target, "staging") || !strings.Contains(target, "shop") {
		t.Errorf("target %q", target)
	}
	for range 3 {
		starts := len(kubectl.Starts(t))
		kubectl.DeletePod(t)
		answerCh := make(chan string, 1)
		go func() {
			got, err := readAll(addr)
			answerCh <- fmt.Sprint(got, err)
		}()
		eventually(t, "kubectl is started again", func() bool { return len(kubectl.Starts(t)) > starts })
		kubectl.SetScript(t, fakekubectl.Script{Backend: upstream.addr}) // the pod's replacement is there
		if got := <-answerCh; got != "220 ready<nil>" {
			t.Errorf("the first client after the pod was deleted got %q", got)
		}
	}
	if svc := w.service(root, "db"); svc.Restarts < 3 {
		t.Errorf("%d restarts, want 3", svc.Restarts)
	}
	kubectl.SetScript(t, fakekubectl.Script{StartError: `Error from server (NotFound): services "postgres" not found`})
	w.mustRun(root, "restart", "--no-wait")
	eventually(t, "the service has failed", func() bool { return w.service(root, "db").State == forwarder.Failed })
	if svc := w.service(root, "db"); !strings.Contains(svc.LastError, "not found") || svc.Hint == "" {
		t.Errorf("last error %q, hint %q", svc.LastError, svc.Hint)
	}
}

func TestTunnel_FrozenProcessIsReplaced(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	root := w.allowedProject(commandConfig(t, "web", port))
	w.mustRun(root, "start")
	w.waitKeeper(root)
	children := findChildren(t, w.supervisor(root).PID)
	if len(children) != 1 {
		t.Fatalf("children: %v", children)
	}
	if err := syscall.Kill(children[0].PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	w.waitExit(children[0])
	if answer, err := ask(fmt.Sprintf("127.0.0.1:%d", port), "you"); answer != "hello you\n" {
		t.Errorf("%q, %v", answer, err)
	}
}

func TestOnDemand_TunnelOpensForTheFirstClientAndClosesAfterTheLast(t *testing.T) {
	t.Parallel()
	host, upstream := sshd.Start(t), serveBanner(t)
	for name, config := range map[string]func(port int) string{
		"command": func(port int) string { return commandConfig(t, "web", port) },
		"ssh":     func(port int) string { return sshConfig("web", port, host, upstream.port) },
		"kubectl": func(port int) string {
			return fmt.Sprintf("[services.web]\ntechnology = \"kubectl\"\nlocal_port = %d\nremote_port = 80\n"+
				"connection = { resource_name = \"web\" }\n", port)
		},
		"tcp": func(port int) string {
			return fmt.Sprintf("[services.web]\ntechnology = \"tcp\"\nlocal_port = %d\nremote_port = %d\n"+
				"connection = { remote_host = \"127.0.0.1\" }\n", port, upstream.port)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTestEnv(t)
			port := ports.FreePort(t)
			if name == "kubectl" {
				kubectl := fakekubectl.Install(t, fakekubectl.Script{Backend: upstream.addr})
				w.env = append(w.env, "PATH="+kubectl.Dir+":"+os.Getenv("PATH"), "LOCALPORT_KUBECTL=kubectl", fakekubectl.ScriptVariable+"="+filepath.Join(kubectl.Dir, "script.json"))
			}
			root := w.allowedProject(strings.Replace(config(port), "local_port", "start = \"on-demand\"\nidle_timeout = \"200ms\"\nlocal_port", 1))
			w.mustRun(root, "start")
			if svc := w.service(root, "web"); svc.State != forwarder.Idle {
				t.Fatalf("before the first client it is %s", svc.State)
			}
			supervisor := w.supervisor(root)
			eventually(t, "the keeper has started", func() bool { return w.state(root).Supervisor.Keeper > 0 }) // until then it looks like another child
			if children := findChildren(t, supervisor.PID); len(children) != 0 {
				t.Errorf("before the first client there are children: %v", children)
			}
			for range 2 {
				addr := fmt.Sprintf("127.0.0.1:%d", port)
				if name == "command" {
					if answer, err := ask(addr, "you"); answer != "hello you\n" {
						t.Errorf("a client: %q, %v", answer, err)
					}
				} else if answer, err := readAll(addr); answer != banner {
					t.Errorf("a client: %q, %v", answer, err)
				}
				eventually(t, "it is idle again", func() bool { return w.service(root, "web").State == forwarder.Idle })
				eventually(t, "the child has ended", func() bool { return len(findChildren(t, supervisor.PID)) == 0 })
			}
		})
	}
}

// escapingConfig returns a service whose program starts a process in a session of its own.
func escapingConfig(t *testing.T) string {
	return fmt.Sprintf("linger = 0.001\n[services.web]\ntechnology = \"command\"\nlocal_port = \"auto\"\n"+
		"command = [\"sh\", \"-c\", \"setsid sleep 600 & exec env -u%s %s=1 %s {port}\"]\n", mainVariable, upstreamVariable, ownExecutable(t))
}

// escapedProcess returns the process in its own session.
func (w *testEnv) escapedProcess(root string) lockstate.Process {
	w.t.Helper()
	var escaped []lockstate.Process
	for _, child := range findChildren(w.t, w.supervisor(root).PID) {
		escaped = append(escaped, findChildren(w.t, child.PID)...)
	}
	if len(escaped) != 1 {
		w.t.Fatalf("grandchildren: %v", escaped)
	}
	return escaped[0]
}

func TestOrphans_OutsideTheProcessGroupEndWithTheSupervisor(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(escapingConfig(t))
	w.mustRun(root, "start")
	escaped := w.escapedProcess(root)
	w.mustRun(root, "stop")
	w.waitExit(escaped)
}

// A supervisor that is stopping has removed itself from the state, so that no successor knows of its run.
func TestOrphans_OutsideTheProcessGroupEndIfTheSupervisorIsKilledWhileStopping(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(escapingConfig(t) + sigtermIgnoringConfig(t, "slow", ports.FreePort(t)))
	w.mustRun(root, "start")
	w.waitKeeper(root)
	supervisor := w.supervisor(root)
	escaped := w.escapedProcess(root)
	w.mustRun(root, "deny")
	kill(t, supervisor.PID)
	w.waitExit(escaped)
}

var killedOrphansPattern = regexp.MustCompile(`orphans_killed=[12]\b`)

func TestOrphans_OfAKilledSupervisorAreKilledByItsSuccessor(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(escapingConfig(t))
	w.mustRun(root, "start")
	w.waitKeeper(root)
	supervisor, escaped := w.supervisor(root), w.escapedProcess(root)
	kill(t, supervisor.PID)
	w.waitExit(escaped)
	eventually(t, "the log reports the killed orphan", func() bool {
		// Its parent, which the kernel kills with the supervisor, may be counted too.
		return killedOrphansPattern.MatchString(w.mustRun(root, "logs", "supervisor", "--grep", "orphans_killed"))
	})
}
