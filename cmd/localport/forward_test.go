package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/testdata/cluster"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/sshd"
	"github.com/localport-sh/localport/testdata/syncbuf"
)

// forwardSession is a running "localport forward" without a terminal.
type forwardSession struct {
	w              *testEnv
	cmd            *exec.Cmd
	stdout, stderr syncbuf.Buffer
}

func (w *testEnv) startForward(dir string, args ...string) *forwardSession {
	w.t.Helper()
	s := &forwardSession{w: w, cmd: w.command(dir, append([]string{"forward"}, args...)...)}
	s.cmd.Stdout, s.cmd.Stderr = &s.stdout, &s.stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it has no terminal to ask on
	if err := s.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		if w.t.Failed() {
			w.t.Logf("stdout: %s\nstderr: %s", s.stdout.String(), s.stderr.String())
		}
	})
	return s
}

// awaitAddress waits until the addresses are printed.
func (s *forwardSession) awaitAddress() {
	s.w.t.Helper()
	eventually(s.w.t, "the address is printed", func() bool { return strings.Contains(s.stdout.String(), "\n") })
}

func (s *forwardSession) awaitMessage(text string) {
	s.w.t.Helper()
	eventually(s.w.t, "it says "+text, func() bool { return strings.Contains(s.stderr.String(), text) })
}

// end sends a signal and returns the exit code.
func (s *forwardSession) end(signal syscall.Signal) int {
	_ = s.cmd.Process.Signal(signal)
	_ = s.cmd.Wait()
	return s.cmd.ProcessState.ExitCode()
}

// checkNoForwardLeft waits until no process and no file of "localport forward" is left.
func (w *testEnv) checkNoForwardLeft() {
	w.t.Helper()
	left := func() (paths []string) {
		for _, pattern := range []string{"runtime/localport/*", "state/localport/projects/*", "data/localport/trust/*.json"} {
			found, _ := filepath.Glob(filepath.Join(w.home, pattern))
			paths = append(paths, found...)
		}
		return paths
	}
	w.t.Cleanup(func() {
		if w.t.Failed() {
			w.t.Logf("left: processes %v, files %v", w.processes(), left())
		}
	})
	eventually(w.t, "nothing is left", func() bool { return len(w.processes()) == 0 && len(left()) == 0 })
}

// The port answers before the command knows that the supervisor runs. Ctrl-C at that moment ends both.
func TestForward_EndsTheSupervisorIfInterruptedBeforeJoin(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	upstream := serve(t, "127.0.0.1:0")
	for range 10 {
		local := ports.FreePort(t)
		addr := fmt.Sprintf("127.0.0.1:%d", local)
		s := w.startForward(w.home, "tcp", fmt.Sprintf("127.0.0.1:%d", upstream.port), strconv.Itoa(local))
		eventually(t, "the port answers", func() bool { _, err := ask(addr, "you"); return err == nil })
		if code := s.end(syscall.SIGINT); code != 0 {
			t.Errorf("exit %d", code)
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatalf("after the command has ended: %v", err)
		}
		l.Close()
	}
	w.checkNoForwardLeft()
}

func TestForward_HoldsClientsAndLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		signal syscall.Signal
		code   int
	}{"INT": {syscall.SIGINT, 0}, "TERM": {syscall.SIGTERM, 0}, "HUP": {syscall.SIGHUP, 0}, "KILL": {syscall.SIGKILL, -1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t)
			remote, local := ports.FreePort(t), ports.FreePort(t)
			s := w.startForward(w.home, "tcp", fmt.Sprintf("127.0.0.1:%d", remote), strconv.Itoa(local))
			s.awaitAddress()
			if got, want := s.stdout.String(), fmt.Sprintf("127.0.0.1:%d -> tcp 127.0.0.1:%d\n", local, remote); got != want {
				t.Errorf("printed %q, want %q", got, want)
			}
			answer := make(chan string, 1)
			go func() {
				text, err := ask(fmt.Sprintf("127.0.0.1:%d", local), "hello")
				answer <- fmt.Sprint(text, err)
			}()
			s.awaitMessage("connection refused")
			serve(t, fmt.Sprintf("127.0.0.1:%d", remote))
			if got := <-answer; !strings.Contains(got, "hello") {
				t.Errorf("the client that waited got %q", got)
			}
			s.awaitMessage(": connected")
			if code := s.end(c.signal); code != c.code {
				t.Errorf("exit %d, want %d", code, c.code)
			}
			w.checkNoForwardLeft()
		})
	}
}

// TestForward_IsHealed kills the supervisor: the port stays open. Then it kills both processes.
func TestForward_IsHealed(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	local := ports.FreePort(t)
	s := w.startForward(w.home, "tcp", serve(t, "127.0.0.1:0").addr, strconv.Itoa(local))
	s.awaitMessage(": connected")
	root := filepath.Dir(w.states()[0].Config)
	w.waitKeeper(root)
	_ = syscall.Kill(w.supervisor(root).PID, syscall.SIGKILL)
	if text, err := ask(fmt.Sprintf("127.0.0.1:%d", local), "hello"); !strings.Contains(text, "hello") {
		t.Errorf("%q, %v", text, err)
	}
	keeper := w.waitKeeper(root)
	_ = syscall.Kill(keeper, syscall.SIGKILL)
	_ = syscall.Kill(w.supervisor(root).PID, syscall.SIGKILL)
	eventually(t, "it is started again", func() bool {
		text, _ := ask(fmt.Sprintf("127.0.0.1:%d", local), "hello")
		return strings.Contains(text, "hello")
	})
	if code := s.end(syscall.SIGINT); code != 0 {
		t.Errorf("exit %d", code)
	}
	w.checkNoForwardLeft()
}

func TestForward_NeedsNoWritableHome(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	for _, name := range []string{"HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"} {
		w.env = append(w.env, name+"=/proc/1/none") // where not even root can make a directory
	}
	s := w.startForward("/", "tcp", serve(t, "127.0.0.1:0").addr, strconv.Itoa(ports.FreePort(t)))
	s.awaitMessage(": connected")
	if code := s.end(syscall.SIGINT); code != 0 {
		t.Errorf("exit %d", code)
	}
	if left, _ := filepath.Glob(filepath.Join(w.home, "runtime/localport/*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestForward_NamesTheHolderOfAPort(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	addr := serve(t, "127.0.0.1:0").addr
	_, port, _ := net.SplitHostPort(addr)
	o := w.localport(w.home, "forward", "tcp", "127.0.0.1:9", port)
	if o.code != 1 || !strings.Contains(o.stderr, addr+" is already in use by ") || !strings.Contains(o.stderr, fmt.Sprintf("(pid %d)", os.Getpid())) ||
		!strings.Contains(o.stderr, "hint: stop it, or choose another local port: tcp 127.0.0.1:9 ") {
		t.Errorf("exit %d\n%s", o.code, o.stderr)
	}
	w.checkNoForwardLeft()
}

func TestForward_NamesAnotherForward(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	args := []string{"tcp", serve(t, "127.0.0.1:0").addr, strconv.Itoa(ports.FreePort(t))}
	s := w.startForward(w.home, args...)
	s.awaitAddress()
	o := w.localport(w.home, append([]string{"forward", "--"}, args...)...)
	if want := fmt.Sprintf("is already in use by another localport forward (pid %d)", s.cmd.Process.Pid); o.code != 1 || !strings.Contains(o.stderr, want) {
		t.Errorf("exit %d\n%s", o.code, o.stderr)
	}
}

// TestForward_OfAllKindsThroughSSHRecovers kills the server's sessions.
func TestForward_OfAllKindsThroughSSHRecovers(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	host := sshd.Start(t)
	local, socks, remote, target := ports.FreePort(t), ports.FreePort(t), ports.FreePort(t), serveBanner(t)
	s := w.startForward(w.home, "-L", fmt.Sprintf("%d:127.0.0.1:%d", local, target.port), "-D", strconv.Itoa(socks), "-fN",
		"-R", fmt.Sprintf("%d:127.0.0.1:%d", remote, target.port), "-F", host.ConfigFile, "-p", strconv.Itoa(host.Port), host.Host)
	s.awaitMessage("socks: connected")
	s.awaitMessage(fmt.Sprintf("reverse-%d: connected", target.port))
	for _, port := range []int{local, remote} {
		if got, err := readAll(fmt.Sprintf("127.0.0.1:%d", port)); got != banner {
			t.Errorf("%q, %v", got, err)
		}
	}
	want := regexp.MustCompile(fmt.Sprintf(`^127\.0\.0\.1:%d -> ssh .*\n127\.0\.0\.1:%d -> ssh .*\(SOCKS\)\nssh .*:%d → 127\.0\.0\.1:%d\n$`, local, socks, remote, target.port))
	if !want.MatchString(s.stdout.String()) {
		t.Errorf("printed\n%s", s.stdout.String())
	}
	host.Restart()
	s.awaitMessage("connected again")
	if got, err := readAll(fmt.Sprintf("127.0.0.1:%d", local)); got != banner {
		t.Errorf("%q, %v", got, err)
	}
	s.end(syscall.SIGINT)
	w.checkNoForwardLeft()
}

func TestForward_DoesNotDisturbTheProject(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	before := w.supervisor(root)
	s := w.startForward(root, "-v", serve(t, "127.0.0.1:0").addr, strconv.Itoa(ports.FreePort(t)))
	s.awaitMessage(": connected")
	if svc := w.service(root, "web"); svc.State != forwarder.Healthy {
		t.Errorf("the project's service is %s", svc.State)
	}
	s.end(syscall.SIGINT)
	if w.supervisor(root) != before {
		t.Error("the project has another supervisor")
	}
}

func TestForward_AsksForAPassphraseOnTheTerminalAndEndsWithCtrlC(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	host := sshd.Start(t)
	dir := t.TempDir()
	locked := sshd.NewKey(t, filepath.Join(dir, "locked"), "open sesame")
	host.Authorize(locked)
	local := ports.FreePort(t)
	target := serveBanner(t)
	args := []string{
		"forward", "ssh", "-N", "-L", fmt.Sprintf("%d:127.0.0.1:%d", local, target.port), "-i", locked, "-o", "IdentityAgent=none",
		"-o", "UserKnownHostsFile=" + filepath.Join(dir, "known_hosts"), "-p", strconv.Itoa(host.Port), host.Host,
	}
	session := w.startOnTerminal(dir, args...)
	session.answer("fingerprint is SHA256:", "yes\n")
	session.answer("Enter passphrase for key", "open sesame\n")
	eventually(t, "it is connected", func() bool { return strings.Contains(session.screen.String(), ": connected") })
	if got, err := readAll(fmt.Sprintf("127.0.0.1:%d", local)); got != banner {
		t.Errorf("%q, %v", got, err)
	}
	session.answer("", "\x03")
	if code := <-session.done; code != 0 || strings.Contains(session.screen.String(), "sesame") {
		t.Errorf("exit %d\n%s", code, session.screen.String())
	}
	w.checkNoForwardLeft()
}

func TestForward_WithoutATerminalSaysWhereToAnswer(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	host := sshd.Start(t)
	s := w.startForward(w.home, "ssh", "-L", fmt.Sprintf("%d:localhost:9", ports.FreePort(t)), "-o", "UserKnownHostsFile="+filepath.Join(w.home, "none"), "-p", strconv.Itoa(host.Port), host.Host)
	_ = s.cmd.Wait()
	if code := s.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(s.stderr.String(), "Host key verification failed.") || !strings.Contains(s.stderr.String(), "this command in a terminal") {
		t.Errorf("exit %d\n%s", code, s.stderr.String())
	}
	w.checkNoForwardLeft()
}

func TestForward_SavesWhatItForwards(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.project("# Ours.\n\n[services.web]\ntechnology = \"tcp\" # plain\nlocal_port = 8080\nremote_port = 80\nconnection = { remote_host = \"web\" }\n")
	local := ports.FreePort(t)
	args := []string{"tcp", serve(t, "127.0.0.1:0").addr, strconv.Itoa(local), "--save"}
	s := w.startForward(root, append([]string{"--name", "echo"}, args...)...)
	s.awaitMessage("echo: connected")
	s.awaitMessage(`wrote echo to ` + filepath.Join(root, ".localport.toml") + `; to use it in each shell there, run "localport allow"`)
	s.end(syscall.SIGTERM)
	text, err := os.ReadFile(filepath.Join(root, ".localport.toml"))
	if err != nil || !strings.HasPrefix(string(text), "# Ours.\n") || !strings.Contains(string(text), fmt.Sprintf("\n\n[services.echo]\ntechnology = \"tcp\"\nlocal_port = %d\n", local)) {
		t.Errorf("%v\n%s", err, text)
	}
	if o := w.localport(root, "env"); o.code != 4 {
		t.Errorf("the config was allowed: exit %d\n%s", o.code, o.stderr)
	}
	for message, words := range map[string][]string{
		`service "echo" exists already` + "\nhint: choose another name with --name":                                                 {"--name", "echo", "tcp", "127.0.0.1:9", "auto", "--save"},
		fmt.Sprintf(`local port %d is that of service "echo" in `, local):                                                           {"tcp", "127.0.0.1:9", strconv.Itoa(local), "--save"},
		"; or let LocalPort choose a free one: tcp 127.0.0.1:9 auto\n":                                                              {"tcp", "127.0.0.1:9", strconv.Itoa(local), "--save"},
		`"--nam": unknown flag of kubectl port-forward` + "\nhint: did you mean \"--name\"?\n":                                      {"--nam", "x", "tcp", "127.0.0.1:9"},
		`"--svae": unknown flag` + "\nhint: did you mean \"--save\"?\n":                                                             {"tcp", "127.0.0.1:9", "--svae"},
		`"--svae": unknown flag of ssh` + "\nhint: did you mean \"--save\"?\n":                                                      {"ssh", "-L", "8080:web:80", "bastion", "--svae"},
		`"--colour": unknown flag of kubectl port-forward` + "\nhint: did you mean \"--color\"? Write it before the pasted command": {"kubectl", "port-forward", "svc/web", "8080", "--colour"},
		`"--log-level": unknown flag of ssh` + "\nhint: --log-level is a flag of localport: write it befo":                          {"ssh", "-L", "8080:web:80", "bastion", "--log-level", "debug"},
	} {
		if o := w.localport(root, append([]string{"forward"}, words...)...); o.code == 0 || !strings.Contains(o.stderr, message) {
			t.Errorf("%q: exit %d\n%s", words, o.code, o.stderr)
		}
	}
	if after, _ := os.ReadFile(filepath.Join(root, ".localport.toml")); string(after) != string(text) {
		t.Errorf("the config was changed:\n%s", after)
	}
}

func TestForward_GoesOnIfTheTargetIsSavedAlready(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	addr, local, other := serve(t, "127.0.0.1:0").addr, ports.FreePort(t), ports.FreePort(t)
	_, port, _ := net.SplitHostPort(addr)
	config := fmt.Sprintf("[services.echo]\ntechnology = \"tcp\"\nlocal_port = %d\nremote_port = %s\nconnection = { remote_host = \"127.0.0.1\" }\n", local, port) +
		"health_check = { type = \"postgres\", user = \"a\", password = \"${NOT_SET}\" }\n"
	root := w.project(config)
	for _, c := range []struct {
		args    []string
		message string
		isSaved bool
	}{
		{[]string{"tcp", addr, strconv.Itoa(local), "--save"}, `localport: already in .localport.toml as "echo"`, false},
		{[]string{"tcp", addr, strconv.Itoa(local), "--save", "--name", "echo"}, `localport: already in .localport.toml as "echo"`, false},
		{[]string{"--save", "tcp", addr, strconv.Itoa(other)}, fmt.Sprintf(`localport: not saved: the project has this target already: service "echo" at 127.0.0.1:%d; to save`, local), false},
		{[]string{"tcp", "--name=second", addr, "--save", strconv.Itoa(other)}, fmt.Sprintf(`localport: the project has this target already: service "echo" at 127.0.0.1:%d`, local), true},
	} {
		s := w.startForward(root, c.args...)
		s.awaitMessage(": connected")
		s.awaitMessage(c.message)
		if code := s.end(syscall.SIGTERM); code != 0 {
			t.Errorf("%q: exit %d", c.args, code)
		}
		if text := readText(t, root, ".localport.toml"); (text != config) != c.isSaved || c.isSaved && !strings.Contains(text, "[services.second]") {
			t.Errorf("%q: the config is\n%s", c.args, text)
		}
	}
}

func TestForward_NamesTheServiceThatHasThePort(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	local := ports.FreePort(t)
	root := w.allowedProject(tcpConfig("web", local, serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	o := w.localport(root, "forward", "ssh", "-L", fmt.Sprintf("%d:db:5432", local), "bastion")
	if o.code != 1 || !strings.Contains(o.stderr, `; it is the port of service "web" of this project`) || !strings.Contains(o.stderr, "; or let LocalPort choose a free one: -L 0:db:5432\n") {
		t.Errorf("exit %d\n%s", o.code, o.stderr)
	}
}

func TestForward_InACluster(t *testing.T) {
	c := cluster.Start(t)
	w := newTestEnv(t)
	w.env = append(w.env, "KUBECONFIG="+c.Kubeconfig())
	ns := c.Namespace(t)
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns, Replicas: 1})

	t.Run("a replaced pod refuses no client", func(t *testing.T) {
		local := ports.FreePort(t)
		s := w.startForward(w.home, "svc/web", fmt.Sprintf("%d:greet", local), "-n", ns)
		s.awaitMessage("web: connected")
		if got := s.stdout.String(); !strings.HasPrefix(got, fmt.Sprintf("127.0.0.1:%d -> svc/web greet (context ", local)) || !strings.Contains(got, "namespace "+ns+")") {
			t.Errorf("printed %q", got)
		}
		clients := startPodClients(50e6, fmt.Sprintf("127.0.0.1:%d", local))
		c.Kubectl(t, "delete", "pod", "-l", "app=web", "-n", ns)
		c.WaitReady(t, ns, "app=web", 1)
		if summary := clients.stop(); summary.failed > 0 || summary.all < 10 {
			t.Errorf("%+v", summary)
		}
		if code := s.end(syscall.SIGINT); code != 0 {
			t.Errorf("exit %d", code)
		}
	})

	for name, args := range map[string][]string{
		"unknown service":   {"svc/webb", "8080", "-n", ns},
		"unknown port":      {"svc/web", ":1234", "-n", ns},
		"unknown namespace": {"kubectl", "port-forward", "svc/web", ":7000", "--namespace=nowhere"},
		"unknown context":   {"svc/web", ":7000", "--context", "nowhere"},
		"unknown file":      {"svc/web", ":7000", "--kubeconfig", "nowhere.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			s := w.startForward(w.home, args...)
			_ = s.cmd.Wait()
			t.Logf("exit %d: %s%s", s.cmd.ProcessState.ExitCode(), s.stdout.String(), s.stderr.String())
			if code := s.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(s.stderr.String(), "hint: ") {
				t.Errorf("exit %d", code)
			}
		})
	}
	w.checkNoForwardLeft()
}
