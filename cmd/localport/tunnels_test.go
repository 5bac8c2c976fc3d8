package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/testdata/fakekubectl"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/sshd"
)

// banner is a server that speaks first, as databases and mail servers do.
func banner(t testing.TB) *server {
	t.Helper()
	ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", ports.FreePort(t))) // nobody else's either when it is closed
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: ln.Addr().String(), port: ln.Addr().(*net.TCPAddr).Port, ln: ln}
	s.conns.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(conn, "220 ready")
			conn.Close()
		}
	})
	t.Cleanup(s.close)
	return s
}

// sshConfig is a service at a port of the far end's own localhost, through a real sshd.
func sshConfig(name string, port any, host *sshd.Server, remote int) string {
	return fmt.Sprintf("[services.%s]\ntechnology = \"ssh\"\nlocal_port = %v\nremote_port = %d\n"+
		"connection = { host = %q, port = %d, user = %q, config_file = %q, remote_host = \"127.0.0.1\" }\n",
		name, port, remote, host.Host, host.Port, host.User, host.ConfigFile)
}

// bannerClients connects again and again until it is stopped, and counts the clients that did not get the banner.
type bannerClients struct {
	stop  chan struct{}
	done  sync.WaitGroup
	mu    sync.Mutex
	asked int
	lost  []error
}

func connectEvery(pace time.Duration, addr string) *bannerClients {
	c := &bannerClients{stop: make(chan struct{})}
	c.done.Go(func() {
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for {
			select {
			case <-c.stop:
				return
			case <-tick.C:
				c.done.Go(func() { c.one(addr) })
			}
		}
	})
	return c
}

func (c *bannerClients) one(addr string) {
	got, err := readAll(addr)
	if got == "220 ready" {
		err = nil // a tunnel that dies between the answer and its end is seen as a reset, and not as a proper end
	} else {
		err = fmt.Errorf("got %q, %w", got, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	if err != nil {
		c.lost = append(c.lost, err)
	}
}

// answered is how many clients have had their answer.
func (c *bannerClients) answered() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked - len(c.lost)
}

// end stops the crowd and returns when every client has ended.
func (c *bannerClients) end() (asked int, lost []error) {
	close(c.stop)
	c.done.Wait()
	return c.asked, c.lost
}

func TestSSH_NoClientIsLostWhenSSHOrItsSessionIsKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	host := sshd.Start(t)
	port := ports.FreePort(t)
	root := w.allowedProject(sshConfig("mail", port, host, banner(t).port))
	sh := w.shell("bash", root)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	if got, err := readAll(addr); got != "220 ready" { // the very first, before ssh is up
		t.Fatalf("%q, %v", got, err)
	}
	clients := connectEvery(20*time.Millisecond, addr)
	for round := range 3 {
		answered := clients.answered()
		eventually(t, "clients are answered", func() bool { return clients.answered() > answered+10 })
		if round == 1 {
			host.Kill()
			host.Restart()
			continue
		}
		for _, child := range childrenOf(t, w.supervisor(root).PID) {
			_ = syscall.Kill(child.PID, syscall.SIGKILL)
		}
	}
	answered := clients.answered()
	eventually(t, "clients are answered", func() bool { return clients.answered() > answered+10 })
	asked, lost := clients.end()
	if len(lost) > 0 {
		t.Errorf("%d of %d clients were lost: %v", len(lost), asked, lost[0])
	}
	svc := w.service(root, "mail")
	if svc.Restarts < 3 {
		t.Errorf("%d restarts, want 3 at least", svc.Restarts)
	}
	t.Logf("%d clients, %d restarts, %d waited, %d replays", asked, svc.Restarts, svc.Connections.Waited, svc.Connections.Replays)
	sh.Exit("exit")
}

func TestSSH_RefusingUpstreamIsUnhealthyAndKeepsTheTunnel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	host := sshd.Start(t)
	remote, port := ports.FreePort(t), ports.FreePort(t)
	root := w.allowedProject(sshConfig("late", port, host, remote))
	w.mustRun(root, "start", "--no-wait")
	eventually(t, "it is unhealthy", func() bool { return w.service(root, "late").State == forwarder.Unhealthy })
	svc := w.service(root, "late")
	if !strings.Contains(svc.LastError, "onnection refused") || svc.Restarts != 0 {
		t.Errorf("last error %q, %d restarts", svc.LastError, svc.Restarts)
	}

	// A client that connects now, and speaks first, waits until the far end is there.
	answer := make(chan string, 1)
	go func() {
		got, err := ask(fmt.Sprintf("127.0.0.1:%d", port), "you")
		answer <- fmt.Sprint(got, err)
	}()
	eventually(t, "the client waits", func() bool { return w.service(root, "late").Connections.Waiting > 0 })
	serve(t, fmt.Sprintf("127.0.0.1:%d", remote))
	if got := <-answer; got != "hello you\n<nil>" {
		t.Errorf("the client that waited got %q", got)
	}
	eventually(t, "it is healthy", func() bool { return w.service(root, "late").State == forwarder.Healthy })
	if svc := w.service(root, "late"); svc.Restarts != 0 || svc.LastError != "" {
		t.Errorf("then %d restarts, last error %q", svc.Restarts, svc.LastError)
	}
}

func TestSSH_ChangedHostKeyFailsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	host := sshd.Start(t)
	root := w.allowedProject(sshConfig("db", `"auto"`, host, banner(t).port))
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
	w := newWorld(t)
	far := banner(t)
	kubectl := fakekubectl.Install(t, fakekubectl.Script{Backend: far.addr})
	w.env = append(w.env, "PATH="+kubectl.Dir+":"+os.Getenv("PATH"), "LOCALPORT_KUBECTL=kubectl", fakekubectl.ScriptVariable+"="+filepath.Join(kubectl.Dir, "script.json"))
	port := ports.FreePort(t)
	root := w.allowedProject(fmt.Sprintf("[services.db]\ntechnology = \"kubectl\"\nlocal_port = %d\nremote_port = 5432\n"+
		"connection = { resource_name = \"postgres\", namespace = \"shop\", context = \"staging\" }\n", port))
	w.mustRun(root, "start")
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	if got, err := readAll(addr); got != "220 ready" {
		t.Fatalf("%q, %v", got, err)
	}
	if target := w.service(root, "db").Target; !strings.Contains(target, "staging") || !strings.Contains(target, "shop") {
		t.Errorf("target %q", target)
	}
	for range 3 {
		starts := len(kubectl.Starts(t))
		kubectl.DeletePod(t)
		answer := make(chan string, 1)
		go func() {
			got, err := readAll(addr)
			answer <- fmt.Sprint(got, err)
		}()
		eventually(t, "kubectl is started again", func() bool { return len(kubectl.Starts(t)) > starts })
		kubectl.SetScript(t, fakekubectl.Script{Backend: far.addr}) // the pod's replacement is there
		if got := <-answer; got != "220 ready<nil>" {
			t.Errorf("the first client after the pod was deleted got %q", got)
		}
	}
	if svc := w.service(root, "db"); svc.Restarts < 3 {
		t.Errorf("%d restarts, want 3", svc.Restarts)
	}
	kubectl.SetScript(t, fakekubectl.Script{StartError: `Error from server (NotFound): services "postgres" not found`})
	w.mustRun(root, "restart", "--no-wait")
	eventually(t, "it has failed", func() bool { return w.service(root, "db").State == forwarder.Failed })
	if svc := w.service(root, "db"); !strings.Contains(svc.LastError, "not found") || svc.Hint == "" {
		t.Errorf("last error %q, hint %q", svc.LastError, svc.Hint)
	}
}

func TestTunnel_FrozenOneIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	port := ports.FreePort(t)
	root := w.allowedProject(commandConfig(t, "web", port))
	w.mustRun(root, "start")
	children := childrenOf(t, w.supervisor(root).PID)
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
	host, far := sshd.Start(t), banner(t)
	for name, config := range map[string]func(port int) string{
		"command": func(port int) string { return commandConfig(t, "web", port) },
		"ssh":     func(port int) string { return sshConfig("web", port, host, far.port) },
		"kubectl": func(port int) string {
			return fmt.Sprintf("[services.web]\ntechnology = \"kubectl\"\nlocal_port = %d\nremote_port = 80\n"+
				"connection = { resource_name = \"web\" }\n", port)
		},
		"tcp": func(port int) string {
			return fmt.Sprintf("[services.web]\ntechnology = \"tcp\"\nlocal_port = %d\nremote_port = %d\n"+
				"connection = { remote_host = \"127.0.0.1\" }\n", port, far.port)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			port := ports.FreePort(t)
			if name == "kubectl" {
				kubectl := fakekubectl.Install(t, fakekubectl.Script{Backend: far.addr})
				w.env = append(w.env, "PATH="+kubectl.Dir+":"+os.Getenv("PATH"), "LOCALPORT_KUBECTL=kubectl", fakekubectl.ScriptVariable+"="+filepath.Join(kubectl.Dir, "script.json"))
			}
			root := w.allowedProject(strings.Replace(config(port), "local_port", "start = \"on-demand\"\nidle_timeout = \"200ms\"\nlocal_port", 1))
			w.mustRun(root, "start")
			if svc := w.service(root, "web"); svc.State != forwarder.Idle {
				t.Fatalf("before the first client it is %s", svc.State)
			}
			supervisor := w.supervisor(root)
			if children := childrenOf(t, supervisor.PID); len(children) != 0 {
				t.Errorf("before the first client there are children: %v", children)
			}
			for range 2 {
				addr := fmt.Sprintf("127.0.0.1:%d", port)
				if name == "command" {
					if answer, err := ask(addr, "you"); answer != "hello you\n" {
						t.Errorf("a client: %q, %v", answer, err)
					}
				} else if answer, err := readAll(addr); answer != "220 ready" {
					t.Errorf("a client: %q, %v", answer, err)
				}
				eventually(t, "it is idle again", func() bool { return w.service(root, "web").State == forwarder.Idle })
				eventually(t, "the child is gone", func() bool { return len(childrenOf(t, supervisor.PID)) == 0 })
			}
		})
	}
}

// escaping is a service whose program starts a process that leaves its group and session.
func escaping(t *testing.T) string {
	return fmt.Sprintf("linger = 0.001\n[services.web]\ntechnology = \"command\"\nlocal_port = \"auto\"\n"+
		"command = [\"sh\", \"-c\", \"setsid sleep 600 & exec env -u%s %s=1 %s {port}\"]\n", mainVariable, upstreamVariable, self(t))
}

// escaped is the process that escaped.
func (w *world) escaped(root string) lockstate.Process {
	w.t.Helper()
	var escaped []lockstate.Process
	for _, child := range childrenOf(w.t, w.supervisor(root).PID) {
		escaped = append(escaped, childrenOf(w.t, child.PID)...)
	}
	if len(escaped) != 1 {
		w.t.Fatalf("grandchildren: %v", escaped)
	}
	return escaped[0]
}

func TestOrphans_OutsideTheProcessGroupEndWithTheSupervisor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := w.allowedProject(escaping(t))
	w.mustRun(root, "start")
	escaped := w.escaped(root)
	w.mustRun(root, "stop")
	w.waitExit(escaped)
}

// A supervisor that ends on request has given up its record: no successor knows of its run.
func TestOrphans_OutsideTheProcessGroupEndIfTheSupervisorIsKilledWhileStopping(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := w.allowedProject(escaping(t) + sigtermIgnoringConfig(t, "slow", ports.FreePort(t)))
	w.mustRun(root, "start")
	w.keeperPID(root)
	supervisor := w.supervisor(root)
	escaped := w.escaped(root)
	w.mustRun(root, "deny")
	kill(t, supervisor.PID)
	w.waitExit(escaped)
}

var sweptOrphans = regexp.MustCompile(`orphans_killed=[12]\b`)

func TestOrphans_OfAKilledSupervisorAreSweptByItsSuccessor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := w.allowedProject(escaping(t))
	w.mustRun(root, "start")
	w.keeperPID(root)
	supervisor, escaped := w.supervisor(root), w.escaped(root)
	kill(t, supervisor.PID)
	w.waitExit(escaped)
	eventually(t, "the log says that it was swept", func() bool {
		// Its parent, which the kernel ends with the supervisor, may be counted too.
		return sweptOrphans.MatchString(w.mustRun(root, "logs", "supervisor", "--grep", "orphans_killed"))
	})
}
