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

// compatibleProject is a project of three services that the earlier localport brings up, and the clients that are connected to it
// while this localport comes.
type compatibleProject struct {
	w      *world
	root   string
	addrs  map[string]string // by service: "web" at a port of LocalPort's choice, "own" of a child, "box" through ssh
	conns  map[string]*connection
	rushes map[string]*clientStream
}

// compatibleServices come in the order of the config.
var compatibleServices = []string{"web", "own", "box"}

// allowCompatible makes the project and has the world's localport allow it.
func allowCompatible(t *testing.T, w *world) *compatibleProject {
	t.Helper()
	host := sshd.Start(t)
	config := "linger = 0.3\n" + tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")) + commandConfig(t, "own", ports.FreePort(t)) +
		sshConfig("box", ports.FreePort(t), host, serve(t, "127.0.0.1:0").port) + "[env]\nURL = \"tcp://${web.addr}\"\n"
	return &compatibleProject{w: w, root: allowAllFiles(w, config)}
}

// allowAllFiles is allowed, of a project that has each of the files whose age prompts look at.
func allowAllFiles(w *world, config string) (root string) {
	w.t.Helper()
	root = w.project(config)
	w.writeFile(root, ".localport.local.toml", "[services.web]\ndescription = \"web\"\n")
	w.writeFile(root, ".env", "GREETING=hello\n")
	w.mustRun(root, "allow")
	return root
}

// connect has one client stay connected to each service, and others come again and again. The project is up.
func (p *compatibleProject) connect(t *testing.T) {
	t.Helper()
	p.addrs, p.conns, p.rushes = map[string]string{}, map[string]*connection{}, map[string]*clientStream{}
	for _, svc := range p.w.document(p.root).Services {
		p.addrs[svc.Name] = svc.Address
	}
	for _, name := range compatibleServices {
		p.conns[name] = dial(t, p.addrs[name])
		p.conns[name].checkReply("hi")
		p.rushes[name] = rushEvery(100*time.Millisecond, p.addrs[name])
	}
}

// checkUnharmed fails the test if a port has changed, a connection from before answers no more, or somebody has to allow again.
func (p *compatibleProject) checkUnharmed(w *world, after string) {
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
			if got := conn.checkReply(after); got != "hello "+after+"\n" {
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

// checkNoneRefused ends the rushes, and fails the test if a client was refused at any time, or one that came after since got no
// answer. A supervisor that is killed takes its clients along; the older one resets, now and then, a client that it accepts at
// the very moment at which it hands over.
func (p *compatibleProject) checkNoneRefused(t *testing.T, since time.Time) {
	t.Helper()
	for name := range p.rushes {
		p.checkNoneRefusedAt(t, name, since)
	}
}

func (p *compatibleProject) checkNoneRefusedAt(t *testing.T, name string, since time.Time) {
	t.Helper()
	rush := p.rushes[name]
	delete(p.rushes, name)
	eventually(t, "clients are answered at last", func() bool { return rush.answered(since) > 3 })
	calls := rush.stop()
	if refused, failed := refused(calls, since); refused > 0 || failed > 0 {
		t.Errorf("%s: of %d clients %d were refused, %d failed: %v", name, len(calls), refused, failed, failures(calls))
	}
}

// failures are what clients met that did not get their answer.
func failures(calls []call) (met []string) {
	for _, one := range calls {
		if one.answer != "hello you\n" {
			met = append(met, fmt.Sprintf("%q %v from %v on, for %v", one.answer, one.err, one.began.Format("05.000"), one.ended.Sub(one.began)))
		}
	}
	return met
}

// awaitReplacement waits until another process than pid is the supervisor.
func (p *compatibleProject) awaitReplacement(w *world, pid int) {
	w.t.Helper()
	eventually(w.t, "another supervisor is there", func() bool {
		now := w.document(p.root).Supervisor
		return now != nil && now.PID != pid
	})
}

func TestCompatibility_CommandsControlAnOlderSupervisor(t *testing.T) {
	t.Parallel()
	old := newOldWorld(t, oldRelease)
	p := allowCompatible(t, old)
	old.mustRun(p.root, "start")
	p.connect(t)
	w := old.current(oldRelease)
	supervisor := w.supervisor(p.root)
	p.checkUnharmed(w, "status")

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
	p.checkUnharmed(w, "commands that change nothing")

	p.checkNoneRefusedAt(t, "own", time.Time{}) // the next are refused rightly
	p.disconnect("own")
	w.mustRun(p.root, "stop", "own")
	if svc := w.document(p.root).service("own"); svc.State != "stopped" || svc.Held {
		t.Errorf("own is %s (held: %v) after stop", svc.State, svc.Held)
	}
	if _, err := ask(p.addrs["own"], "you"); err == nil {
		t.Error("own answers after stop")
	}
	w.mustRun(p.root, "start", "own")
	served(t, p.addrs["own"])
	w.mustRun(p.root, "restart", "own")
	served(t, p.addrs["own"])
	p.checkUnharmed(w, "stop, start and restart of a service")
	if w.supervisor(p.root) != supervisor {
		t.Error("the older supervisor did not stay")
	}
	p.checkNoneRefused(t, time.Time{})
	p.disconnect()
	w.down(p.root, p.addrs["web"], p.addrs["own"], p.addrs["box"])
}

func TestCompatibility_DaemonRestartReplacesOlderSupervisorAndKeeper(t *testing.T) {
	t.Parallel()
	old := newOldWorld(t, oldRelease)
	p := allowCompatible(t, old)
	old.mustRun(p.root, "start")
	old.keeperPID(p.root)
	p.connect(t)
	w := old.current(oldRelease)
	first := w.supervisor(p.root)
	w.mustRun(p.root, "daemon", "restart")
	if w.supervisor(p.root) == first {
		t.Fatal("daemon restart left the older supervisor")
	}
	p.checkUnharmed(w, "daemon restart")
	if kinds := w.document(p.root).kinds(); !slices.Equal(kinds, []string{"start"}) {
		t.Errorf("the leases are %v", kinds)
	}
	old.mustRun(p.root, "exec", "--", "true")
	p.checkUnharmed(old, "a command of the older program")

	second := w.supervisor(p.root) // its keeper is the older one still
	kill(t, second.PID)
	killed := time.Now()
	p.awaitReplacement(w, second.PID)
	p.checkUnharmed(w, "kill") // what is connected is the first one's to finish
	p.disconnect()
	w.waitExit(first)
	p.checkNoneRefused(t, killed)

	keeper := w.keeperPID(p.root)
	kill(t, keeper)
	w.keeperPID(p.root, keeper)
	third := w.supervisor(p.root)
	kill(t, third.PID)
	p.awaitReplacement(w, third.PID)
	p.checkUnharmed(w, "kill of the keeper, then of the supervisor")
	w.down(p.root, p.addrs["web"], p.addrs["own"], p.addrs["box"])
}

func TestCompatibility_OlderKeeperRevivesItsKilledSupervisor(t *testing.T) {
	t.Parallel()
	for name, upgraded := range map[string]bool{"from the older program": false, "from this program at the same path": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			old := newOldWorld(t, oldRelease)
			p := allowCompatible(t, old)
			old.mustRun(p.root, "start")
			keeper := old.keeperPID(p.root)
			p.connect(t)
			w := old.current(oldRelease)
			if upgraded {
				old.upgrade()
			}
			supervisor := w.supervisor(p.root)
			kill(t, supervisor.PID)
			killed := time.Now()
			p.disconnect() // they were its own
			p.awaitReplacement(w, supervisor.PID)
			p.checkUnharmed(w, "kill")
			if now := w.keeperPID(p.root); now != keeper {
				t.Errorf("the keeper was %d and is %d", keeper, now)
			}
			if kinds := w.document(p.root).kinds(); !slices.Equal(kinds, []string{"start"}) {
				t.Errorf("the leases are %v", kinds)
			}
			w.mustRun(p.root, "exec", "--", "true")
			p.checkUnharmed(w, "exec")
			p.checkNoneRefused(t, killed)
			w.mustRun(p.root, "daemon", "restart")
			p.checkUnharmed(w, "daemon restart")
			w.mustRun(p.root, "restart", "own", "box")
			served(t, p.addrs["own"])
			served(t, p.addrs["box"])
			p.checkUnharmed(w, "restart of services")
			w.down(p.root, p.addrs["web"], p.addrs["own"], p.addrs["box"])
		})
	}
}

func TestCompatibility_CommandRecoversFromKilledOlderSupervisorAndKeeper(t *testing.T) {
	t.Parallel()
	old := newOldWorld(t, oldRelease)
	p := allowCompatible(t, old)
	old.mustRun(p.root, "start")
	keeper := old.keeperPID(p.root)
	p.connect(t)
	p.disconnect()
	for _, rush := range p.rushes {
		rush.stop()
	}
	w := old.current(oldRelease)
	children := childrenOf(t, w.supervisor(p.root).PID)
	kill(t, keeper)
	kill(t, w.supervisor(p.root).PID)
	eventually(t, "both are gone", func() bool { return len(w.processes()) == 0 })
	w.mustRun(p.root, "exec", "--", "true")
	for _, child := range children {
		w.waitExit(child)
	}
	p.checkUnharmed(w, "exec")
	for _, name := range compatibleServices {
		served(t, p.addrs[name])
	}
	w.down(p.root, p.addrs["web"], p.addrs["own"], p.addrs["box"])
}

func TestCompatibility_NewerReleaseReplacesOlderOneOnce(t *testing.T) {
	t.Parallel()
	old := newOldWorld(t, oldRelease)
	p := allowCompatible(t, old)
	old.mustRun(p.root, "start")
	p.connect(t)
	first := old.supervisor(p.root)
	newer := old.current("1.1.0")
	newer.mustRun(p.root, "exec", "--", "true")
	takenOver := time.Now()
	second := newer.supervisor(p.root)
	if status := newer.document(p.root); second == first || status.Supervisor.Version != "1.1.0" {
		t.Fatalf("after the newer release the supervisor is %+v", status.Supervisor)
	}
	p.checkUnharmed(newer, "a newer release")
	for _, w := range []*world{old, newer, old.current("0.9.0"), old.current("1.1.1-dev")} {
		w.mustRun(p.root, "exec", "--", "true")
		p.checkUnharmed(w, "a command of another release")
	}
	if newer.supervisor(p.root) != second {
		t.Error("it was replaced once more")
	}
	if kinds := newer.document(p.root).kinds(); !slices.Equal(kinds, []string{"start"}) {
		t.Errorf("the leases are %v", kinds)
	}
	p.checkNoneRefused(t, takenOver)
	p.disconnect()
	newer.waitExit(first)
	newer.down(p.root, p.addrs["web"], p.addrs["own"], p.addrs["box"])
}

// An older release that is newer than a development build, or than what was installed by mistake, takes over just so.
func TestCompatibility_OlderProgramReplacesIfItIsTheNewerRelease(t *testing.T) {
	t.Parallel()
	old := newOldWorld(t, oldRelease)
	w := old.current("0.9.0")
	p := allowCompatible(t, w)
	w.mustRun(p.root, "start")
	w.keeperPID(p.root)
	p.connect(t)
	first := w.supervisor(p.root)
	old.mustRun(p.root, "exec", "--", "true")
	if status := w.document(p.root); status.Supervisor.PID == first.PID || status.Supervisor.Version != oldRelease {
		t.Fatalf("after the newer release the supervisor is %+v", status.Supervisor)
	}
	p.checkUnharmed(w, "the older program")
	p.checkNoneRefusedAt(t, "web", time.Time{})
	second := w.supervisor(p.root) // its keeper is of this program
	kill(t, second.PID)
	killed := time.Now()
	p.awaitReplacement(w, second.PID)
	p.checkUnharmed(w, "kill")
	p.checkNoneRefused(t, killed)
	p.disconnect()
	w.down(p.root, p.addrs["web"], p.addrs["own"], p.addrs["box"])
}

// The lease of an exec that the older program has become is its process's, which goes on under any supervisor.
func TestCompatibility_LeaseOfAnOlderExecKeepsTheProjectRunning(t *testing.T) {
	t.Parallel()
	old := newOldWorld(t, oldRelease)
	p := allowCompatible(t, old)
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
	newer := old.current("1.1.0")
	newer.mustRun(p.root, "exec", "--", "true")
	takenOver := time.Now()
	second := newer.supervisor(p.root)
	if second == first {
		t.Error("the newer release did not take over")
	}
	eventually(t, "the lease of the newer exec is gone", func() bool { return len(newer.document(p.root).Leases) == 1 })
	if status := newer.document(p.root); status.Leases[0].Kind != "exec" || status.Leases[0].PID != command.Process.Pid {
		t.Errorf("the leases are %+v", status.Leases)
	}
	p.checkUnharmed(newer, "a newer release")
	p.checkNoneRefused(t, takenOver)
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
	newer.nothingLeft(p.root, p.addrs["web"], p.addrs["own"], p.addrs["box"])
}

// Commands of this program leave the login with a passphrase to whom it was given: to the older supervisor and its ssh.
func TestCompatibility_LoginUnderAnOlderSupervisorIsKept(t *testing.T) {
	t.Parallel()
	old := newOldWorld(t, oldRelease)
	host := sshd.Start(t)
	config, locals := sshServicesByName(t, host, "one", "two")
	root := old.project(config)
	old.mustRun(root, "allow")
	if o := old.localport(root, "start"); o.code == 0 {
		t.Fatal("start did not need a login")
	}
	u := old.atTerminal(root, "login")
	u.answer("fingerprint is SHA256:", "yes\n")
	u.answer("Enter passphrase for key", "open sesame\n")
	if code := <-u.done; code != 0 {
		t.Fatalf("login: exit %d\n%s", code, u.screen())
	}
	supervisor := old.supervisor(root)
	w := old.current(oldRelease)
	sh := w.shell("bash", root)
	w.mustRun(root, "exec", "--", "true")
	w.mustRun(root, "stop", "one")
	w.mustRun(root, "start", "one")
	sh.Run("true")
	for _, port := range locals {
		if got, err := readAll(fmt.Sprintf("127.0.0.1:%d", port)); got != "220 ready" {
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
	w.down(root)
}
