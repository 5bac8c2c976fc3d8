package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/sshd"
	"github.com/localport-sh/localport/testdata/syncbuf"
)

// terminalSession is a command that runs on a terminal.
type terminalSession struct {
	w    *testEnv
	tty  *os.File
	done chan int // receives the exit code

	screen syncbuf.Buffer
}

// startOnTerminal starts localport on a new terminal.
func (w *testEnv) startOnTerminal(dir string, args ...string) *terminalSession {
	w.t.Helper()
	cmd := w.command(dir, args...)
	tty, err := pty.Start(cmd)
	if err != nil {
		w.t.Fatal(err)
	}
	s := &terminalSession{w: w, tty: tty, done: make(chan int, 1)}
	var reading sync.WaitGroup
	reading.Go(func() { _, _ = io.Copy(&s.screen, tty) })
	go func() {
		_ = cmd.Wait()
		reading.Wait() // the read ends when no process has the terminal open
		s.done <- cmd.ProcessState.ExitCode()
	}()
	w.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = tty.Close()
	})
	return s
}

// answer waits until the terminal shows the question, and types a line.
func (s *terminalSession) answer(question, line string) {
	s.w.t.Helper()
	eventually(s.w.t, "the terminal shows "+question, func() bool { return strings.Contains(s.screen.String(), question) })
	if _, err := io.WriteString(s.tty, line); err != nil {
		s.w.t.Fatal(err)
	}
}

// sshServicesByName returns a config of services on a host whose key is unknown, with a private key that has a passphrase, and their local
// ports.
func sshServicesByName(t *testing.T, host *sshd.Server, names ...string) (config string, locals []int) {
	t.Helper()
	dir := t.TempDir()
	locked := sshd.NewKey(t, filepath.Join(dir, "locked"), "open sesame")
	host.Authorize(locked)
	own := filepath.Join(dir, "config")
	text := fmt.Sprintf("Host *\nUserKnownHostsFile %s\nGlobalKnownHostsFile /dev/null\nIdentityFile %s\nIdentityAgent none\nIdentitiesOnly yes\n",
		filepath.Join(dir, "known_hosts"), locked)
	if err := os.WriteFile(own, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		port := ports.FreePort(t)
		locals = append(locals, port)
		config += strings.ReplaceAll(sshConfig(name, port, host, serveBanner(t).port), host.ConfigFile, own)
	}
	return config, locals
}

func TestSSH_LoginAsksOnceOnTheTerminal(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	host := sshd.Start(t)
	config, ports := sshServicesByName(t, host, "one", "two", "three")
	root := w.allowedProject(config)
	if o := w.localport(root, "start"); o.code != 1 || !strings.Contains(o.stderr, "Host key verification failed.") || !strings.Contains(o.stderr, "localport login") {
		t.Errorf("start: exit %d\n%s", o.code, o.stderr)
	}
	for _, svc := range w.status(root).Services {
		if svc.State != forwarder.NeedsAttention || !strings.Contains(svc.Hint, "localport login") {
			t.Errorf("%s is %s: %s; %s", svc.Name, svc.State, svc.LastError, svc.Hint)
		}
	}
	attempts := strings.Count(host.Log(), "Connection closed by")
	session := w.startOnTerminal(root, "login")
	session.answer("fingerprint is SHA256:", "yes\n")
	session.answer("Enter passphrase for key", "open sesame\n")
	if code := <-session.done; code != 0 {
		t.Fatalf("login: exit %d\n%s", code, session.screen.String())
	}
	if screen := session.screen.String(); strings.Contains(screen, "open sesame") || strings.Count(screen, "passphrase") != 1 || !strings.Contains(screen, "one, two, three") {
		t.Errorf("the terminal showed\n%s", screen)
	}
	for _, port := range ports {
		if got, err := readAll(fmt.Sprintf("127.0.0.1:%d", port)); got != banner {
			t.Errorf("%q, %v", got, err)
		}
	}
	if n := strings.Count(host.Log(), "Accepted publickey"); n != 1 || attempts > 1 {
		t.Errorf("%d logins, and %d attempts before", n, attempts)
	}
	for _, file := range []string{"supervisor", "one", "two", "three"} {
		if strings.Contains(w.mustRun(root, "logs", file), "open sesame") {
			t.Errorf("the log of %s has the passphrase", file)
		}
	}
}

// A supervisor that would have to ask the user again does not take over; one that need not, because the service is stopped or the key has
// no passphrase any more, does.
func TestSSH_RestartOfTheSupervisorCostsNoLogin(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	host := sshd.Start(t)
	config, locals := sshServicesByName(t, host, "one", "two")
	root := w.allowedProject(config + tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	w.localport(root, "start")
	session := w.startOnTerminal(root, "login")
	session.answer("fingerprint is SHA256:", "yes\n")
	session.answer("Enter passphrase for key", "open sesame\n")
	if code := <-session.done; code != 0 {
		t.Fatalf("login: exit %d\n%s", code, session.screen.String())
	}
	before := w.supervisor(root)
	for range 3 {
		w.mustRun(root, "restart", "one", "two")
	}
	if n := strings.Count(host.Log(), "Accepted publickey"); n != 1 {
		t.Errorf("%d logins after restarts of the services", n)
	}
	for range 2 {
		o := w.localport(root, "daemon", "restart")
		if o.code != 1 || !strings.HasPrefix(o.stderr, "localport: restart: a new supervisor would need another login for one, two (") ||
			!strings.HasSuffix(o.stderr, ")\nhint: localport stop one two; localport daemon restart; localport start one two; localport login\n") {
			t.Errorf("daemon restart: exit %d\n%s", o.code, o.stderr)
		}
		if now := w.supervisor(root); now != before {
			t.Errorf("the supervisor is %+v, was %+v", now, before)
		}
		for _, port := range locals {
			if got, err := readAll(fmt.Sprintf("127.0.0.1:%d", port)); got != banner {
				t.Errorf("%q, %v", got, err)
			}
		}
	}
	// An upgrade at a command finds that out in the background, and is tried again when no login can be lost.
	newer := w.withCurrentBinary("99.0.0")
	if out := newer.mustRun(root, "status"); !strings.Contains(out, "; it was not replaced, because a new supervisor would need another login for one, two (") ||
		!strings.Contains(out, "; to replace it all the same: localport stop one two; localport daemon restart; ") {
		t.Errorf("status of another version:\n%s", out)
	}
	newer.mustRun(root, "exec", "-s", "web", "--", "true")
	eventually(t, "the upgrade is recorded as refused", func() bool { return w.state(root).Supervisor.Refused == "99.0.0" })
	newer.mustRun(root, "exec", "-s", "web", "--", "true")
	if now := w.supervisor(root); now != before {
		t.Errorf("the supervisor is %+v, was %+v", now, before)
	}
	w.mustRun(root, "stop", "one", "two")
	eventually(t, "the upgrade takes place", func() bool {
		newer.mustRun(root, "exec", "-s", "web", "--", "true")
		return w.supervisor(root) != before
	})
	// The rest of what the message advises: the services get their login back.
	if o := w.localport(root, "start", "one", "two"); o.code != 1 {
		t.Errorf("start: exit %d\n%s", o.code, o.stderr)
	}
	session = w.startOnTerminal(root, "login")
	session.answer("Enter passphrase for key", "open sesame\n")
	if code := <-session.done; code != 0 {
		t.Errorf("login: exit %d\n%s", code, session.screen.String())
	}
	for _, port := range locals {
		if got, err := readAll(fmt.Sprintf("127.0.0.1:%d", port)); got != banner {
			t.Errorf("%q, %v", got, err)
		}
	}
	w.stopProject(root)
}

func TestSSH_InterruptedLoginRestoresTerminalAndServices(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	host := sshd.Start(t)
	config, _ := sshServicesByName(t, host, "db")
	root := w.allowedProject(config)
	w.localport(root, "start")
	session := w.startOnTerminal(root, "login", "db")
	session.answer("fingerprint is SHA256:", "yes\n")
	session.answer("Enter passphrase for key", "\x03")
	if code := <-session.done; code == 0 || !strings.Contains(session.screen.String(), "interrupted") {
		t.Errorf("login: exit %d\n%s", code, session.screen.String())
	}
	eventually(t, "it needs attention again", func() bool { return w.service(root, "db").State == forwarder.NeedsAttention })
	if o := w.localport(root, "login", "db"); o.code != 1 || !strings.Contains(o.stderr, "terminal") {
		// Without a terminal it cannot ask; the tests may or may not have one.
		t.Logf("exit %d: %s", o.code, o.stderr)
	}
}

// The gate holds up the first attempt, which shows that a login is needed.
func TestSSH_LoginWaitsForServicesThatAreStarting(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	host := sshd.Start(t)
	config, _ := sshServicesByName(t, host, "one", "two")
	gate := filepath.Join(t.TempDir(), "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	config = strings.ReplaceAll(config, "remote_host", fmt.Sprintf(`options = { ProxyCommand = "bash -c '[ ! -p %s ] || read line <%[1]s; exec 3<>/dev/tcp/%%h/%%p; cat <&3 & cat >&3'" }, remote_host`, gate))
	root := w.allowedProject(config)
	w.mustRun(root, "start", "--no-wait")
	session := w.startOnTerminal(root, "login")
	session.answer("waiting for one, two to start", "")
	opened, err := os.OpenFile(gate, os.O_WRONLY, 0) // when ssh's program reads
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(gate), opened.Close()); err != nil {
		t.Fatal(err)
	}
	session.answer("fingerprint is SHA256:", "yes\n")
	session.answer("Enter passphrase for key", "open sesame\n")
	if code := <-session.done; code != 0 {
		t.Fatalf("login: exit %d\n%s", code, session.screen.String())
	}
}

func TestSSH_WrongPasswordIsAskedAgainThenFails(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	host := sshd.Start(t)
	config, _ := sshServicesByName(t, host, "db")
	root := w.allowedProject(config)
	w.localport(root, "start")
	session := w.startOnTerminal(root, "login")
	session.answer("fingerprint is SHA256:", "yes\n")
	session.answer("Enter passphrase for key", "wrong\n")
	eventually(t, "it asks again", func() bool { return strings.Count(session.screen.String(), "passphrase") > 1 })
	session.answer("passphrase", "wrong\n")
	eventually(t, "it asks again", func() bool { return strings.Count(session.screen.String(), "passphrase") > 2 })
	session.answer("passphrase", "wrong\n")
	if code := <-session.done; code != 1 || !strings.Contains(session.screen.String(), "Permission denied (publickey") {
		t.Errorf("login: exit %d\n%s", code, session.screen.String())
	}
	if n := strings.Count(session.screen.String(), "The answer was not accepted, try again."); n != 2 {
		t.Errorf("it said %d times to try again:\n%s", n, session.screen.String())
	}
}

func TestSSH_MissingKeyFileIsTheHint(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	host := sshd.Start(t, "PasswordAuthentication yes", "KbdInteractiveAuthentication yes")
	text := strings.ReplaceAll(sshConfig("db", ports.FreePort(t), host, 1), "remote_host", "key_file = \"none/key\", remote_host")
	root := w.allowedProject(text)
	config, err := os.ReadFile(host.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	keyless := strings.ReplaceAll(string(config), "IdentityFile "+host.KeyFile+"\n", "")
	if err := os.WriteFile(host.ConfigFile, []byte(keyless), 0o600); err != nil {
		t.Fatal(err)
	}
	w.localport(root, "start")
	svc, path := w.service(root, "db"), filepath.Join(root, "none", "key")
	if svc.State != forwarder.NeedsAttention || !strings.HasPrefix(svc.Hint, "correct key_file, or create the key: "+path) {
		t.Errorf("%s: %q, %q", svc.State, svc.LastError, svc.Hint)
	}
	session := w.startOnTerminal(root, "login")
	session.answer("password:", "\x03")
	<-session.done
	if !strings.Contains(session.screen.String(), "key_file "+path+" does not exist") {
		t.Errorf("the terminal showed\n%s", session.screen.String())
	}
}

func TestSSH_ReverseForwardListensOnlyRemotely(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	host := sshd.Start(t)
	local, remotePort := serveBanner(t), ports.FreePort(t)
	config := strings.Replace(sshConfig("hook", local.port, host, remotePort), "remote_host", "reverse = true, remote_host", 1)
	root := w.allowedProject(config)
	w.mustRun(root, "start")
	svc := w.service(root, "hook")
	if svc.State != forwarder.Healthy || !svc.Reverse || svc.Address != "" || len(svc.Addresses) != 0 {
		t.Errorf("status shows %+v", svc)
	}
	if got, err := readAll(fmt.Sprintf("127.0.0.1:%d", remotePort)); got != banner {
		t.Errorf("through the reverse forward: %q, %v", got, err)
	}
	if table := w.mustRun(root, "status"); !strings.Contains(table, "(reverse)") || !strings.Contains(table, fmt.Sprintf("listens on 127.0.0.1:%d → 127.0.0.1:%d", remotePort, local.port)) {
		t.Errorf("the table:\n%s", table)
	}
	if env := w.mustRun(root, "env"); strings.Contains(env, "HOOK") {
		t.Errorf("variables:\n%s", env)
	}
	local.close()
	w.mustRun(root, "restart", "--no-wait", "hook")
	eventually(t, "status shows that nothing listens locally", func() bool {
		return strings.Contains(w.service(root, "hook").LastError, "nothing listens on")
	})
	w.mustRun(root, "stop", "--all")
	// Local ports are closed when stop returns; tunnels, and with them the remote listener, end afterwards.
	eventually(t, "the remote port is closed", func() bool {
		conn, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", remotePort))
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
}

func TestSSH_UnknownListenAddressIsInStatus(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	local, remotePort := serveBanner(t), ports.FreePort(t)
	host := sshd.Start(t, "PermitOpen none", fmt.Sprintf("PermitListen 0.0.0.0:%d", remotePort))
	config := strings.Replace(sshConfig("hook", local.port, host, remotePort), "remote_host", "reverse = true, remote_host", 1)
	root := w.allowedProject(strings.Replace(config, `remote_host = "127.0.0.1"`, `remote_host = "0.0.0.0"`, 1))
	w.mustRun(root, "start")
	want := fmt.Sprintf("it is not known whether 127.0.0.1 listens on 0.0.0.0:%d, or on its localhost only (", remotePort)
	svc := w.service(root, "hook")
	if svc.State != forwarder.Healthy || svc.LastError != "" || !strings.HasPrefix(svc.Hint, want) || !strings.HasSuffix(svc.Hint, fmt.Sprintf("run on 127.0.0.1: ss -ltn sport = :%d", remotePort)) {
		t.Errorf("status shows %+v", svc)
	}
	if table := w.mustRun(root, "status"); !strings.Contains(table, "\nhook: "+want) {
		t.Errorf("the table:\n%s", table)
	}
}

func TestSSH_SOCKSPortGoesThroughTheRelay(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	host := sshd.Start(t)
	port := ports.FreePort(t)
	root := w.allowedProject(fmt.Sprintf("[services.proxy]\ntechnology = \"ssh\"\nlocal_port = %d\n"+
		"connection = { host = %q, port = %d, user = %q, config_file = %q, socks = true }\n", port, host.Host, host.Port, host.User, host.ConfigFile))
	w.mustRun(root, "start")
	to := serveBanner(t).port
	conn, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	request := append([]byte("\x05\x01\x00\x05\x01\x00\x03\x09localhost"), byte(to>>8), byte(to))
	if _, err := conn.Write(request); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if want := "\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00220 ready\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v", got, err)
	}
	if table := w.mustRun(root, "status"); !strings.Contains(table, "anywhere (SOCKS)") {
		t.Errorf("the table:\n%s", table)
	}
	refused, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer refused.Close()
	if _, err := refused.Write([]byte("\x05\x01\x00\x05\x01\x00\x03\x09localhost\x00\x01")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(refused); err != nil || !strings.HasPrefix(string(got), "\x05\x00\x05\x05") {
		t.Errorf("got %q, %v for a port on which nothing listens", got, err)
	}
	const reason = "127.0.0.1 cannot connect to localhost:1: Connection refused"
	eventually(t, "status shows the failed request", func() bool {
		svc := w.service(root, "proxy")
		return svc.LastRefusal != nil && svc.LastRefusal.Reason == reason && svc.State == forwarder.Healthy && svc.LastError == ""
	})
	if table := w.mustRun(root, "status"); !strings.Contains(strings.Join(strings.Fields(table), " "), "request failed") {
		t.Errorf("the table:\n%s", table)
	}
	if log := w.mustRun(root, "logs", "proxy"); !strings.Contains(log, "SOCKS: "+reason) {
		t.Errorf("the log:\n%s", log)
	}
}

func TestSSH_RefusedRequestNamesTheSetting(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	to := serveBanner(t).port
	host := sshd.Start(t, "PermitOpen 127.0.0.1:1")
	port := ports.FreePort(t)
	root := w.allowedProject(fmt.Sprintf("[services.proxy]\ntechnology = \"ssh\"\nlocal_port = %d\n"+
		"connection = { host = %q, port = %d, user = %q, config_file = %q, socks = true }\n", port, host.Host, host.Port, host.User, host.ConfigFile))
	w.mustRun(root, "start")
	conn, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(append([]byte("\x05\x01\x00\x05\x01\x00\x03\x09localhost"), byte(to>>8), byte(to))); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(got), "\x05\x00\x05\x02") {
		t.Errorf("got %q, %v for a request that the server forbids", got, err)
	}
	want := fmt.Sprintf("sshd_config of 127.0.0.1 must allow it: AllowTcpForwarding yes (or local), no DisableForwarding, and localhost:%d in PermitOpen if that is set; ", to)
	eventually(t, "status shows the refused request", func() bool { return w.service(root, "proxy").LastRefusal != nil })
	if svc := w.service(root, "proxy"); svc.State != forwarder.Healthy || !strings.HasPrefix(svc.LastRefusal.Hint, want) {
		t.Errorf("%v, %+v", svc.State, svc.LastRefusal)
	}
	if table := w.mustRun(root, "status"); !strings.Contains(table, "\nproxy: "+want) {
		t.Errorf("the table:\n%s", table)
	}
}

func TestSSH_SOCKSIsNotHealthyIfTheServerForbidsForwarding(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	host := sshd.Start(t, "AllowTcpForwarding no")
	root := w.allowedProject(fmt.Sprintf("[services.proxy]\ntechnology = \"ssh\"\nlocal_port = %d\n"+
		"connection = { host = %q, port = %d, user = %q, config_file = %q, socks = true }\n", ports.FreePort(t), host.Host, host.Port, host.User, host.ConfigFile))
	w.localport(root, "start", "--no-wait")
	eventually(t, "it is unhealthy", func() bool { return w.service(root, "proxy").State == forwarder.Unhealthy })
	if svc := w.service(root, "proxy"); !strings.Contains(svc.LastError, "127.0.0.1 does not allow forwarding") || !strings.Contains(svc.Hint, "AllowTcpForwarding yes") {
		t.Errorf("%q, %q", svc.LastError, svc.Hint)
	}
}

func TestSSH_OnlyTheServiceOfADeadUpstreamIsUnhealthy(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	open := serveBanner(t)
	host := sshd.Start(t, fmt.Sprintf("PermitOpen 127.0.0.1:%d 127.0.0.1:1", open.port))
	root := w.allowedProject(sshConfig("good", ports.FreePort(t), host, open.port) +
		sshConfig("absent", ports.FreePort(t), host, 1) + sshConfig("forbidden", ports.FreePort(t), host, serveBanner(t).port))
	w.localport(root, "start", "--no-wait")
	for name, want := range map[string]string{
		"absent":    "127.0.0.1 cannot connect to 127.0.0.1:1: Connection refused",
		"forbidden": "127.0.0.1 does not allow connections to 127.0.0.1:",
	} {
		eventually(t, name+" has its error", func() bool { return strings.HasPrefix(w.service(root, name).LastError, want) })
		if svc := w.service(root, name); svc.State != forwarder.Unhealthy || svc.Restarts != 0 {
			t.Errorf("%s is %s after %d restarts: %s", name, svc.State, svc.Restarts, svc.LastError)
		}
	}
	forbidden := w.service(root, "forbidden")
	if !strings.Contains(forbidden.Hint, "AllowTcpForwarding") || !strings.Contains(forbidden.Hint, "PermitOpen") {
		t.Errorf("the hint does not name the settings: %q", forbidden.Hint)
	}
	startedAt := time.Now()
	if text, err := readAll(forbidden.Address); err == nil || time.Since(startedAt) > 5*time.Second {
		t.Errorf("a client of a forbidden address got %q, %v after %v", text, err, time.Since(startedAt))
	}
	eventually(t, "the other is healthy", func() bool { return w.service(root, "good").State == forwarder.Healthy })
	if svc := w.service(root, "good"); svc.LastError != "" {
		t.Errorf("the healthy service has the error %q", svc.LastError)
	}
	if n := strings.Count(host.Log(), "Accepted publickey"); n != 1 {
		t.Errorf("%d logins", n)
	}
}
