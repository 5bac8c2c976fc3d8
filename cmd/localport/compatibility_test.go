package main

import (
	"bufio"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/sshd"
)

// compatibleProject is a project of three services that the older program starts, and the clients that use it while this program takes
// over.
type compatibleProject struct {
	w       *testEnv
	root    string
	addrs   map[string]string // by service: "web" has an automatic port, "own" is a command, "box" goes through ssh
	conns   map[string]*connection
	clients map[string]greetingClients
}

// compatibleServices are in the order of the config.
var compatibleServices = []string{"web", "own", "box"}

// newCompatibleProject creates the project and allows it.
func newCompatibleProject(t *testing.T, w *testEnv) *compatibleProject {
	t.Helper()
	host := sshd.Start(t)
	config := "linger = 0.3\n" + tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")) + commandConfig(t, "own", ports.FreePort(t)) +
		sshConfig("box", ports.FreePort(t), host, serve(t, "127.0.0.1:0").port) + "[env]\nURL = \"tcp://${web.addr}\"\n"
	return &compatibleProject{w: w, root: allowedProjectWithAllFiles(w, config)}
}

// allowedProjectWithAllFiles is allowedProject with all the files that prompts compare.
func allowedProjectWithAllFiles(w *testEnv, config string) (root string) {
	w.t.Helper()
	root = w.project(config)
	w.writeFile(root, ".localport.local.toml", "[services.web]\ndescription = \"web\"\n")
	w.writeFile(root, ".env", "GREETING=hello\n")
	w.mustRun(root, "allow")
	return root
}

// connect opens one lasting connection to each service of the running project, and starts other clients.
func (p *compatibleProject) connect(t *testing.T) {
	t.Helper()
	p.addrs, p.conns, p.clients = map[string]string{}, map[string]*connection{}, map[string]greetingClients{}
	for _, svc := range p.w.document(p.root).Services {
		p.addrs[svc.Name] = svc.Address
	}
	for _, name := range compatibleServices {
		p.conns[name] = dial(t, p.addrs[name])
		p.conns[name].exchangeLine("hi")
		p.clients[name] = startGreetingClients(100*time.Millisecond, p.addrs[name])
	}
}

// checkUnaffected fails the test if a port has changed, a lasting connection does not answer any more, or a change is pending.
func (p *compatibleProject) checkUnaffected(w *testEnv, after string) {
	w.t.Helper()
	status := w.document(p.root)
	if status.State != "running" || status.Pending != "" {
		w.t.Errorf("after %s the project is %s; pending: %q", after, status.State, status.Pending)
	}
	for _, name := range compatibleServices {
		svc := status.service(name)
		if svc.Address != p.addrs[name] || !svc.Held {
			w.t.Errorf("after %s %s is at %q (held: %v), was at %q", after, name, svc.Address, svc.Held, p.addrs[name])
		}
		if conn := p.conns[name]; conn != nil {
			_ = conn.conn.SetDeadline(time.Now().Add(30 * time.Second))
			if got := conn.exchangeLine(after); got != "hello "+after+"\n" {
				w.t.Errorf("after %s the connection of %s answers %q", after, name, got)
			}
		}
	}
}

// disconnect closes the connections of services, of all if none is named.
func (p *compatibleProject) disconnect(names ...string) {
	for name, conn := range p.conns {
		if len(names) == 0 || slices.Contains(names, name) {
			conn.conn.Close()
			delete(p.conns, name)
		}
	}
}

// checkNoneRefused stops the clients, and fails the test if one was ever refused, or one that started after since got no answer. Earlier
// ones may fail: a killed supervisor's clients do, and the older program may reset one that it accepts while it hands over.
func (p *compatibleProject) checkNoneRefused(t *testing.T, since time.Time) {
	t.Helper()
	for name := range p.clients {
		p.checkNoneRefusedAt(t, name, since)
	}
}

func (p *compatibleProject) checkNoneRefusedAt(t *testing.T, name string, since time.Time) {
	t.Helper()
	clients := p.clients[name]
	delete(p.clients, name)
	eventually(t, "clients are answered", func() bool { return clients.countAnswered(since) > 3 })
	calls := clients.stop()
	if refused, failed := countRefused(calls, since); refused > 0 || failed > 0 {
		t.Errorf("%s: of %d clients %d were refused, %d failed: %v", name, len(calls), refused, failed, describeFailures(calls))
	}
}

// waitReplacement waits until another process than pid is the supervisor.
func (p *compatibleProject) waitReplacement(w *testEnv, pid int) {
	w.t.Helper()
	eventually(w.t, "another supervisor runs", func() bool {
		now := w.document(p.root).Supervisor
		return now != nil && now.PID != pid
	})
}

func TestCompatibility_CommandsControlAnOlderSupervisor(t *testing.T) {
	t.Parallel()
	old := newOldTestEnv(t, oldRelease)
	p := newCompatibleProject(t, old)
	old.mustRun(p.root, "start")
	p.connect(t)
	w := old.withCurrentBinary(oldRelease)
	supervisor := w.supervisor(p.root)
	p.checkUnaffected(w, "status")

	if out := w.mustRun(p.root, "exec", "--", "sh", "-c", "echo $URL"); out != "tcp://"+p.addrs["web"]+"\n" {
		t.Errorf("exec gave its command URL=%q", out)
	}
	if out := w.mustRun(p.root, "env"); !strings.Contains(out, p.addrs["web"]) {
		t.Errorf("env printed %q", out)
	}
	if out := w.mustRun(p.root, "port", "web"); !strings.HasSuffix(p.addrs["web"], ":"+strings.TrimSpace(out)) {
		t.Errorf("port printed %q", out)
	}
	if out := w.mustRun(p.root, "events"); !strings.Contains(out, "web") {
		t.Errorf("events printed %q", out)
	}
	if out := w.mustRun(p.root, "logs"); !strings.Contains(out, "listening") {
		t.Errorf("logs printed %q", out)
	}
	w.metrics(p.root)
	w.mustRun(p.root, "config", "validate")
	w.mustRun(p.root, "daemon", "status")
	w.mustRun(p.root, "daemon", "reload")
	w.mustRun(p.root, "daemon", "start")
	w.mustRun(p.root, "allow")
	w.mustRun(p.root, "start")
	if o := w.localport(p.root, "login"); o.code != 0 {
		t.Errorf("login where nothing needs one: exit %d, %s", o.code, o.stderr)
	}
	p.checkUnaffected(w, "commands that change nothing")

	p.checkNoneRefusedAt(t, "own", time.Time{}) // after stop, clients are refused
	p.disconnect("own")
	w.mustRun(p.root, "stop", "own")
	if svc := w.document(p.root).service("own"); svc.State != "stopped" || svc.Held {
		t.Errorf("own is %s (held: %v) after stop", svc.State, svc.Held)
	}
	if _, err := ask(p.addrs["own"], "you"); err == nil {
		t.Error("own answers after stop")
	}
	w.mustRun(p.root, "start", "own")
	checkServed(t, p.addrs["own"])
	w.mustRun(p.root, "restart", "own")
	checkServed(t, p.addrs["own"])
	p.checkUnaffected(w, "stop, start and restart of a service")
	if w.supervisor(p.root) != supervisor {
		t.Error("the older supervisor was replaced")
	}
	p.checkNoneRefused(t, time.Time{})
	p.disconnect()
	w.stopProject(p.root, p.addrs["web"], p.addrs["own"], p.addrs["box"])
}

func TestCompatibility_DaemonRestartReplacesOlderSupervisorAndKeeper(t *testing.T) {
	t.Parallel()
	old := newOldTestEnv(t, oldRelease)
	p := newCompatibleProject(t, old)
	old.mustRun(p.root, "start")
	old.waitKeeper(p.root)
	p.connect(t)
	w := old.withCurrentBinary(oldRelease)
	first := w.supervisor(p.root)
	w.mustRun(p.root, "daemon", "restart")
	if w.supervisor(p.root) == first {
		t.Fatal("daemon restart did not replace the older supervisor")
	}
	p.checkUnaffected(w, "daemon restart")
	if kinds := w.document(p.root).kinds(); !slices.Equal(kinds, []string{"start"}) {
		t.Errorf("the leases are %v", kinds)
	}
	old.mustRun(p.root, "exec", "--", "true")
	p.checkUnaffected(old, "a command of the older program")

	second := w.supervisor(p.root) // its keeper is still the older program's
	kill(t, second.PID)
	killTime := time.Now()
	p.waitReplacement(w, second.PID)
	p.checkUnaffected(w, "kill") // the first supervisor still serves the lasting connections
	p.disconnect()
	w.waitExit(first)
	p.checkNoneRefused(t, killTime)

	keeper := w.waitKeeper(p.root)
	kill(t, keeper)
	w.waitKeeper(p.root, keeper)
	third := w.supervisor(p.root)
	kill(t, third.PID)
	p.waitReplacement(w, third.PID)
	p.checkUnaffected(w, "kill of the keeper, then of the supervisor")
	w.stopProject(p.root, p.addrs["web"], p.addrs["own"], p.addrs["box"])
}

func TestCompatibility_OlderKeeperReplacesItsKilledSupervisor(t *testing.T) {
	t.Parallel()
	for name, upgraded := range map[string]bool{"from the older program": false, "from this program at the same path": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			old := newOldTestEnv(t, oldRelease)
			p := newCompatibleProject(t, old)
			old.mustRun(p.root, "start")
			keeper := old.waitKeeper(p.root)
			p.connect(t)
			w := old.withCurrentBinary(oldRelease)
			if upgraded {
				old.upgrade()
			}
			supervisor := w.supervisor(p.root)
			kill(t, supervisor.PID)
			killTime := time.Now()
			p.disconnect() // the killed supervisor served the connections
			p.waitReplacement(w, supervisor.PID)
			p.checkUnaffected(w, "kill")
			if now := w.waitKeeper(p.root); now != keeper {
				t.Errorf("the keeper was %d and is %d", keeper, now)
			}
			if kinds := w.document(p.root).kinds(); !slices.Equal(kinds, []string{"start"}) {
				t.Errorf("the leases are %v", kinds)
			}
			w.mustRun(p.root, "exec", "--", "true")
			p.checkUnaffected(w, "exec")
			p.checkNoneRefused(t, killTime)
			w.mustRun(p.root, "daemon", "restart")
			p.checkUnaffected(w, "daemon restart")
			w.mustRun(p.root, "restart", "own", "box")
			checkServed(t, p.addrs["own"])
			checkServed(t, p.addrs["box"])
			p.checkUnaffected(w, "restart of services")
			w.stopProject(p.root, p.addrs["web"], p.addrs["own"], p.addrs["box"])
		})
	}
}

func TestCompatibility_CommandRecoversFromKilledOlderSupervisorAndKeeper(t *testing.T) {
	t.Parallel()
	old := newOldTestEnv(t, oldRelease)
	p := newCompatibleProject(t, old)
	old.mustRun(p.root, "start")
	keeper := old.waitKeeper(p.root)
	p.connect(t)
	p.disconnect()
	for _, clients := range p.clients {
		clients.stop()
	}
	w := old.withCurrentBinary(oldRelease)
	children := findChildren(t, w.supervisor(p.root).PID)
	kill(t, keeper)
	kill(t, w.supervisor(p.root).PID)
	eventually(t, "both have ended", func() bool { return len(w.processes()) == 0 })
	w.mustRun(p.root, "exec", "--", "true")
	for _, child := range children {
		w.waitExit(child)
	}
	p.checkUnaffected(w, "exec")
	for _, name := range compatibleServices {
		checkServed(t, p.addrs[name])
	}
	w.stopProject(p.root, p.addrs["web"], p.addrs["own"], p.addrs["box"])
}

func TestCompatibility_NewerReleaseReplacesOlderOneOnce(t *testing.T) {
	t.Parallel()
	old := newOldTestEnv(t, oldRelease)
	p := newCompatibleProject(t, old)
	old.mustRun(p.root, "start")
	p.connect(t)
	first := old.supervisor(p.root)
	newer := old.withCurrentBinary("1.1.0")
	newer.mustRun(p.root, "exec", "--", "true")
	takeoverTime := time.Now()
	second := newer.supervisor(p.root)
	if status := newer.document(p.root); second == first || status.Supervisor.Version != "1.1.0" {
		t.Fatalf("after the newer release the supervisor is %+v", status.Supervisor)
	}
	p.checkUnaffected(newer, "a newer release")
	for _, w := range []*testEnv{old, newer, old.withCurrentBinary("0.9.0"), old.withCurrentBinary("1.1.1-dev")} {
		w.mustRun(p.root, "exec", "--", "true")
		p.checkUnaffected(w, "a command of another release")
	}
	if newer.supervisor(p.root) != second {
		t.Error("the supervisor was replaced once more")
	}
	if kinds := newer.document(p.root).kinds(); !slices.Equal(kinds, []string{"start"}) {
		t.Errorf("the leases are %v", kinds)
	}
	p.checkNoneRefused(t, takeoverTime)
	p.disconnect()
	newer.waitExit(first)
	newer.stopProject(p.root, p.addrs["web"], p.addrs["own"], p.addrs["box"])
}

// The older program replaces this one if its release is the newer one, as with a development build or a downgrade by mistake.
func TestCompatibility_OlderProgramReplacesIfItIsTheNewerRelease(t *testing.T) {
	t.Parallel()
	old := newOldTestEnv(t, oldRelease)
	w := old.withCurrentBinary("0.9.0")
	p := newCompatibleProject(t, w)
	w.mustRun(p.root, "start")
	w.waitKeeper(p.root)
	p.connect(t)
	first := w.supervisor(p.root)
	old.mustRun(p.root, "exec", "--", "true")
	if status := w.document(p.root); status.Supervisor.PID == first.PID || status.Supervisor.Version != oldRelease {
		t.Fatalf("after the newer release the supervisor is %+v", status.Supervisor)
	}
	p.checkUnaffected(w, "the older program")
	p.checkNoneRefusedAt(t, "web", time.Time{})
	second := w.supervisor(p.root) // its keeper is this program's
	kill(t, second.PID)
	killTime := time.Now()
	p.waitReplacement(w, second.PID)
	p.checkUnaffected(w, "kill")
	p.checkNoneRefused(t, killTime)
	p.disconnect()
	w.stopProject(p.root, p.addrs["web"], p.addrs["own"], p.addrs["box"])
}

// The lease of the older program's exec belongs to the command's process, and counts under any supervisor.
func TestCompatibility_LeaseOfAnOlderExecKeepsTheProjectRunning(t *testing.T) {
	t.Parallel()
	old := newOldTestEnv(t, oldRelease)
	p := newCompatibleProject(t, old)
	command := old.command(p.root, "exec", "--", "sh", "-c", "echo up; read line; echo $WEB_PORT")
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() || lines.Text() != "up" {
		t.Errorf("the command printed %q", lines.Text())
	}
	p.connect(t)
	first := old.supervisor(p.root)
	newer := old.withCurrentBinary("1.1.0")
	newer.mustRun(p.root, "exec", "--", "true")
	takeoverTime := time.Now()
	second := newer.supervisor(p.root)
	if second == first {
		t.Error("the newer release did not take over")
	}
	eventually(t, "the lease of the newer exec was released", func() bool { return len(newer.document(p.root).Leases) == 1 })
	if status := newer.document(p.root); status.Leases[0].Kind != "exec" || status.Leases[0].PID != command.Process.Pid {
		t.Errorf("the leases are %+v", status.Leases)
	}
	p.checkUnaffected(newer, "a newer release")
	p.checkNoneRefused(t, takeoverTime)
	p.disconnect()
	fmt.Fprintln(stdin, "end")
	if !lines.Scan() || !strings.HasSuffix(p.addrs["web"], ":"+lines.Text()) {
		t.Errorf("the command printed %q", lines.Text())
	}
	if err := command.Wait(); err != nil {
		t.Error(err)
	}
	newer.waitExit(second)
	newer.waitExit(first)
	newer.checkNothingLeft(p.root, p.addrs["web"], p.addrs["own"], p.addrs["box"])
}

// Commands of this program do not replace an older supervisor, whose ssh is logged in with a passphrase.
func TestCompatibility_LoginUnderAnOlderSupervisorIsKept(t *testing.T) {
	t.Parallel()
	old := newOldTestEnv(t, oldRelease)
	host := sshd.Start(t)
	config, locals := sshServicesByName(t, host, "one", "two")
	root := old.project(config)
	old.mustRun(root, "allow")
	if o := old.localport(root, "start"); o.code == 0 {
		t.Fatal("start did not need a login")
	}
	session := old.startOnTerminal(root, "login")
	session.answer("fingerprint is SHA256:", "yes\n")
	session.answer("Enter passphrase for key", "open sesame\n")
	if code := <-session.done; code != 0 {
		t.Fatalf("login: exit %d\n%s", code, session.screen.String())
	}
	supervisor := old.supervisor(root)
	w := old.withCurrentBinary(oldRelease)
	sh := w.shell("bash", root)
	w.mustRun(root, "exec", "--", "true")
	w.mustRun(root, "stop", "one")
	w.mustRun(root, "start", "one")
	sh.Run("true")
	for _, port := range locals {
		if got, err := readAll(fmt.Sprintf("127.0.0.1:%d", port)); got != banner {
			t.Errorf("%q, %v", got, err)
		}
	}
	for _, svc := range w.document(root).Services {
		if svc.State != "healthy" {
			t.Errorf("%s is %s", svc.Name, svc.State)
		}
	}
	if n := strings.Count(host.Log(), "Accepted publickey"); n != 1 || w.supervisor(root) != supervisor {
		t.Errorf("%d logins; the supervisor is %+v, was %+v", n, w.supervisor(root), supervisor)
	}
	sh.Kill()
	w.stopProject(root)
}
