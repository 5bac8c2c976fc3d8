package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/testdata/fakekubectl"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/sshd"
)

// projectsWithSameConfig makes n allowed projects with the same config, as worktrees of one repository are.
func (w *testEnv) projectsWithSameConfig(n int, config string) []string {
	w.t.Helper()
	roots := make([]string, n)
	for i := range roots {
		roots[i] = w.allowedProject(config)
	}
	return roots
}

// startAtOnce runs "localport start" in all projects at the same time.
func (w *testEnv) startAtOnce(roots []string) {
	w.t.Helper()
	var wg sync.WaitGroup
	for _, root := range roots {
		wg.Go(func() {
			if o := w.localport(root, "start"); o.code != 0 {
				w.t.Errorf("start in %s: exit %d\n%s%s", root, o.code, o.stdout, o.stderr)
			}
		})
	}
	wg.Wait()
}

// requireOneHolder checks that one of the projects has the service and the others share it, and returns both.
func (w *testEnv) requireOneHolder(roots []string, name string) (holder string, borrowers []string) {
	w.t.Helper()
	eventually(w.t, "one project has "+name+", and the others share it", func() bool {
		holder, borrowers = "", nil
		var holders []string // whose port the others share
		for _, root := range roots {
			switch svc := w.service(root, name); {
			case !svc.Held || !svc.IsReady():
				return false
			case svc.State == forwarder.Shared:
				borrowers, holders = append(borrowers, root), append(holders, svc.Shared.Project)
			case holder != "":
				return false // the port was passed on between the two answers
			default:
				holder = root
			}
		}
		return holder != "" && !slices.ContainsFunc(holders, func(root string) bool { return root != holder })
	})
	return holder, borrowers
}

// borrowedLeases are the leases of other projects at a project.
func (w *testEnv) borrowedLeases(root string) []api.Lease {
	w.t.Helper()
	return slices.DeleteFunc(w.status(root).Leases, func(l api.Lease) bool { return l.Kind != api.BorrowedLease })
}

func TestShared_TenWorktreesWithOneTCPPort(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	roots := w.projectsWithSameConfig(10, tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	w.startAtOnce(roots)
	holder, borrowers := w.requireOneHolder(roots, "web")
	if leases := w.borrowedLeases(holder); len(leases) != len(borrowers) {
		t.Errorf("%d leases of %d borrowers", len(leases), len(borrowers))
	}
	for _, root := range borrowers {
		if got := w.mustRun(root, "port", "web"); got != fmt.Sprintln(port) {
			t.Errorf("port: %q", got)
		}
		if got := w.mustRun(root, "exec", "--", "sh", "-c", "echo $WEB_PORT"); got != fmt.Sprintln(port) {
			t.Errorf("exec: %q", got)
		}
		if got := w.mustRun(root, "env"); !strings.Contains(got, fmt.Sprint(port)) {
			t.Errorf("env: %q", got)
		}
		if got := w.mustRun(root, "status"); !strings.Contains(got, "web: shared: project "+holder+" has the port") {
			t.Errorf("status: %s", got)
		}
	}
	if got := w.mustRun(holder, "status"); !strings.Contains(got, "9 other projects") || !strings.Contains(got, "web: shared with ") {
		t.Errorf("status of the holder: %s", got)
	}
	if answer, err := ask(addr, "you"); answer != "hello you\n" {
		t.Errorf("%q, %v", answer, err)
	}

	for len(roots) > 1 { // each holder leaves in turn
		w.mustRun(holder, "stop")
		roots = slices.DeleteFunc(roots, func(root string) bool { return root == holder })
		if answer, err := ask(addr, "you"); answer != "hello you\n" {
			t.Fatalf("with %d projects left: %q, %v", len(roots), answer, err)
		}
		holder, _ = w.requireOneHolder(roots, "web")
	}
	w.mustRun(holder, "stop")
	eventually(t, "every process has ended", func() bool { return len(w.processes()) == 0 })
	w.checkNothingLeft(holder, addr)
}

// Each project may get the one port while another gets the other: they lend to each other.
func TestShared_SeveralPortsAndProjectsAtOnce(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	upstream := serve(t, "127.0.0.1:0")
	config := ""
	names := []string{"one", "two", "three"}
	for _, name := range names {
		config += tcpConfig(name, ports.FreePort(t), upstream)
	}
	roots := w.projectsWithSameConfig(6, config)
	w.startAtOnce(roots)
	for _, name := range names {
		w.requireOneHolder(roots, name)
	}
	for len(roots) > 1 {
		w.mustRun(roots[0], "stop")
		roots = roots[1:]
		for _, name := range names {
			w.requireOneHolder(roots, name)
		}
	}
}

func TestShared_TenWorktreesLogInOnce(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	host, port := sshd.Start(t), ports.FreePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	roots := w.projectsWithSameConfig(10, sshConfig("web", port, host, serve(t, "127.0.0.1:0").port))
	w.startAtOnce(roots)
	holder, borrowers := w.requireOneHolder(roots, "web")
	if n := strings.Count(host.Log(), "Accepted publickey"); n != 1 {
		t.Errorf("%d logins", n)
	}
	for _, root := range borrowers {
		if children := findChildren(t, w.supervisor(root).PID); len(children) > 0 {
			t.Errorf("a borrower runs %v", children)
		}
	}
	if children := findChildren(t, w.supervisor(holder).PID); len(children) != 1 {
		t.Errorf("the holder runs %v, want one ssh", children)
	}
	if answer, err := ask(addr, "you"); answer != "hello you\n" {
		t.Errorf("%q, %v", answer, err)
	}
}

// One project has all services of a destination: they are not divided among the projects, of which each would log in.
func TestShared_TenWorktreesWithSeveralServicesLogInOnce(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	host, upstream := sshd.Start(t), serve(t, "127.0.0.1:0").port
	names := []string{"one", "two", "three", "four", "five"}
	config := ""
	for _, name := range names {
		config += sshConfig(name, ports.FreePort(t), host, upstream)
	}
	roots := w.projectsWithSameConfig(10, config)
	requireOne := func(when string, logins int) (holder string) {
		t.Helper()
		for _, name := range names {
			one, _ := w.requireOneHolder(roots, name)
			if holder != "" && one != holder {
				t.Errorf("%s: %s has %s, and %s another service", when, one, name, holder)
			}
			holder = one
		}
		if n := strings.Count(host.Log(), "Accepted publickey"); n != logins {
			t.Errorf("%s: %d logins, want %d", when, n, logins)
		}
		return holder
	}
	leave := func(holder string) {
		roots = slices.DeleteFunc(roots, func(root string) bool { return root == holder })
	}
	w.startAtOnce(roots)
	holder := requireOne("started at once", 1)

	w.mustRun(holder, "stop")
	leave(holder)
	holder = requireOne("after the holder has stopped", 2)

	for _, pid := range []int{w.waitKeeper(holder), w.supervisor(holder).PID} {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	leave(holder)
	requireOne("after the holder was killed", 3)
}

// What a command does, and as whom, is not known: two with the same text may lead to different places.
func TestShared_CommandIsNeverShared(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	roots := w.projectsWithSameConfig(2, commandConfig(t, "web", port))
	w.mustRun(roots[0], "start")
	o := w.localport(roots[1], "start")
	if o.code != output.ExitFailed || !strings.Contains(o.stderr, "is already in use by the project of "+roots[0]) {
		t.Errorf("exit %d, %q", o.code, o.stderr)
	}
	if svc := w.service(roots[1], "web"); svc.State != forwarder.Failed || svc.Held || svc.Shared != nil {
		t.Errorf("the second project: %+v", svc)
	}
	if leases := w.borrowedLeases(roots[0]); len(leases) > 0 {
		t.Errorf("leases: %+v", leases)
	}
	if env := w.localport(roots[1], "env"); strings.Contains(env.stdout, "WEB_PORT") {
		t.Errorf("the second project exports %q", env.stdout)
	}
	if answer, err := ask(fmt.Sprintf("127.0.0.1:%d", port), "you"); answer != "hello you\n" {
		t.Errorf("through the first project: %q, %v", answer, err)
	}
	w.mustRun(roots[0], "stop")
	eventually(t, "the second project has the port", func() bool { return w.service(roots[1], "web").State == forwarder.Healthy })
}

// The holder stops in the middle of a stream of clients: none is refused, and what is connected stays.
func TestShared_PortPassesOnWithoutRefusingAnybody(t *testing.T) {
	t.Parallel()
	for _, how := range [][]string{{"stop", "web"}, {"stop"}, {"deny"}} {
		t.Run(strings.Join(how, " "), func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t)
			port := ports.FreePort(t)
			addr := fmt.Sprintf("127.0.0.1:%d", port)
			roots := w.projectsWithSameConfig(2, tcpConfig("web", port, serve(t, "127.0.0.1:0")))
			w.mustRun(roots[0], "start")
			w.mustRun(roots[1], "start")
			w.requireOneHolder(roots, "web")
			established := connectAndGreet(t, addr)
			clients := startGreetingClients(clientInterval, addr)
			first := time.Now()
			eventually(t, "clients are answered", func() bool { return clients.countAnswered(first) > 20 })

			w.mustRun(roots[0], how...)
			eventually(t, "the other project has the port", func() bool { return w.service(roots[1], "web").State == forwarder.Healthy })
			after := time.Now()
			eventually(t, "clients are answered", func() bool { return clients.countAnswered(after) > 20 })
			if refused, failed := countRefused(clients.stop(), first); refused+failed > 0 {
				t.Errorf("%d clients refused, %d not answered", refused, failed)
			}
			if err := established.greet("still here"); err != nil {
				t.Errorf("the established connection: %v", err)
			}
			if how[0] == "stop" && len(how) == 2 {
				if svc := w.service(roots[0], "web"); svc.State != forwarder.Stopped || svc.Held {
					t.Errorf("the former holder: %+v", svc)
				}
				w.mustRun(roots[0], "start", "web") // now it shares the other's
				if holder, _ := w.requireOneHolder(roots, "web"); holder != roots[1] {
					t.Errorf("%s has the port", holder)
				}
			}
		})
	}
}

func TestShared_StopOfABorrowerLeavesTheHolderAlone(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	roots := w.projectsWithSameConfig(2, tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	w.mustRun(roots[0], "start")
	w.mustRun(roots[1], "start")
	w.requireOneHolder(roots, "web")
	before := w.service(roots[0], "web")
	established := connectAndGreet(t, addr)
	for _, args := range [][]string{{"stop", "web"}, {"start", "web"}, {"restart", "web"}, {"stop"}} {
		w.mustRun(roots[1], args...)
		if err := established.greet(strings.Join(args, " ")); err != nil {
			t.Errorf("after %v: %v", args, err)
		}
	}
	eventually(t, "the lease is gone", func() bool { return len(w.borrowedLeases(roots[0])) == 0 })
	if after := w.service(roots[0], "web"); after.State != forwarder.Healthy || after.Restarts != before.Restarts || !after.UpSince.Equal(*before.UpSince) {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

// The holder and its keeper are killed: one of the borrowers gets the port, and the others share it.
func TestShared_BorrowersCompeteWhenTheHolderIsKilled(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	roots := w.projectsWithSameConfig(4, tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	w.startAtOnce(roots)
	holder, borrowers := w.requireOneHolder(roots, "web")
	keeper := w.waitKeeper(holder)
	supervisor := w.supervisor(holder)
	for _, pid := range []int{keeper, supervisor.PID} {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	w.requireOneHolder(borrowers, "web")
	if answer, err := ask(fmt.Sprintf("127.0.0.1:%d", port), "you"); answer != "hello you\n" {
		t.Errorf("%q, %v", answer, err)
	}
}

// Only the supervisor is killed: its keeper starts another, of which the port is borrowed again. The variables stay all the while.
func TestShared_SurvivesAKilledSupervisorOfTheHolder(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	roots := w.projectsWithSameConfig(2, tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	w.mustRun(roots[0], "start")
	w.mustRun(roots[1], "start")
	w.requireOneHolder(roots, "web")
	w.waitKeeper(roots[0])
	killed := w.supervisor(roots[0])
	if err := syscall.Kill(killed.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "there is another supervisor", func() bool {
		state := w.state(roots[0])
		return state.Supervisor != nil && state.Supervisor.Process != killed && state.Supervisor.IsAlive()
	})
	if holder, _ := w.requireOneHolder(roots, "web"); holder != roots[0] {
		t.Errorf("%s has the port", holder)
	}
	if leases := w.borrowedLeases(roots[0]); len(leases) != 1 {
		t.Errorf("leases: %+v", leases)
	}
}

// A borrower that is stopped cannot take the port: the next one gets it. When the first one continues, it does not use what it was offered.
func TestShared_PortPassesOnToABorrowerThatAnswers(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	roots := w.projectsWithSameConfig(3, tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	for _, root := range roots {
		w.mustRun(root, "start")
	}
	w.requireOneHolder(roots, "web")
	clients := startGreetingClients(clientInterval, addr)
	first := time.Now()
	frozen := w.supervisor(roots[1]).PID
	if err := syscall.Kill(frozen, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	w.mustRun(roots[0], "stop")
	eventually(t, "the borrower that answers has the port", func() bool { return w.service(roots[2], "web").State == forwarder.Healthy })
	if err := syscall.Kill(frozen, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if holder, _ := w.requireOneHolder(roots[1:], "web"); holder != roots[2] {
		t.Errorf("%s has the port", holder)
	}
	if refused, failed := countRefused(clients.stop(), first); refused+failed > 0 {
		t.Errorf("%d clients refused, %d not answered", refused, failed)
	}
}

// The holder's supervisor is replaced, as by an upgrade.
func TestShared_SurvivesAReplacedSupervisorOfTheHolder(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	roots := w.projectsWithSameConfig(2, tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	w.mustRun(roots[0], "start")
	w.mustRun(roots[1], "start")
	w.requireOneHolder(roots, "web")
	w.waitKeeper(roots[0])
	established := connectAndGreet(t, addr)
	for _, root := range roots {
		w.mustRun(root, "daemon", "restart")
		if holder, _ := w.requireOneHolder(roots, "web"); holder != roots[0] {
			t.Errorf("after a restart in %s, %s has the port", root, holder)
		}
		if leases := w.borrowedLeases(roots[0]); len(leases) != 1 || leases[0].PID != w.supervisor(roots[1]).PID {
			t.Errorf("leases: %+v", leases)
		}
	}
	if err := established.greet("again"); err != nil {
		t.Error(err)
	}
}

// The borrower is healthy if and only if the holder is.
func TestShared_FollowsTheHealthAtTheHolder(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	upstream, port := serve(t, fmt.Sprintf("127.0.0.1:%d", ports.FreePort(t))), ports.FreePort(t) // it is served again later
	config := tcpConfig("web", port, upstream) + "health_check = { type = \"tcp\", interval = \"1s\" }\n" +
		tcpConfig("api", ports.FreePort(t), serve(t, "127.0.0.1:0")) + "depends_on = [\"web\"]\nlocal_address = \"127.0.0.1\"\n"
	one := w.allowedProject(tcpConfig("web", port, upstream) + "start = \"on-demand\"\nidle_timeout = \"1s\"\nhealth_check = { type = \"tcp\", interval = \"1s\" }\n")
	two := w.allowedProject(config)
	w.mustRun(one, "start")
	if svc := w.service(one, "web"); svc.State != forwarder.Idle {
		t.Errorf("the holder is %s without clients", svc.State)
	}
	w.mustRun(two, "start")
	w.requireOneHolder([]string{one, two}, "web")
	eventually(t, "the borrower keeps the tunnel up", func() bool { return w.service(two, "web").EffectiveState() == forwarder.Healthy })

	upstream.close()
	eventually(t, "the borrower shows that the service is unhealthy", func() bool {
		svc := w.service(two, "web")
		return svc.State == forwarder.Shared && !svc.IsReady() && strings.Contains(svc.LastError, "refused")
	})
	if got := w.mustRun(two, "status"); !strings.Contains(got, "shared (unhealthy)") {
		t.Errorf("status: %s", got)
	}
	o := w.localport(two, "exec", "--wait", "1s", "--", "true")
	if o.code != output.ExitExecFailed || !strings.Contains(o.stderr, "unhealthy") || !strings.Contains(o.stderr, one) {
		t.Errorf("exec: exit %d, %q", o.code, o.stderr)
	}
	serve(t, upstream.addr)
	w.mustRun(two, "exec", "--", "true")
}

// When nobody uses the holder's project any more, what is shared stays up, and the rest is closed until somebody comes back.
func TestShared_SaysThatTheHolderDoesNotRespond(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	roots := w.projectsWithSameConfig(2, tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	w.startAtOnce(roots)
	holder, borrowers := w.requireOneHolder(roots, "web")
	borrower, supervisor := borrowers[0], w.supervisor(holder)
	reason := "the supervisor of " + holder + " does not respond"
	shows := func(isUnresponsive bool) func() bool {
		return func() bool {
			svc := w.service(borrower, "web")
			return svc.State == forwarder.Shared && svc.IsReady() != isUnresponsive && (svc.LastError == reason) == isUnresponsive
		}
	}
	stop := func() {
		w.stopSupervisor(holder)
		eventually(t, "the borrower shows that the holder does not respond", shows(true))
	}
	stop()
	if got := w.localport(borrower, "status").stdout; !strings.Contains(got, "localport daemon restart (in "+holder+")") {
		t.Errorf("status: %s", got)
	}
	if err := syscall.Kill(supervisor.PID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the borrower shows that the holder responds", shows(false))

	stop()
	w.mustRun(holder, "daemon", "restart") // what the hint says
	eventually(t, "the borrower shows that the holder responds", shows(false))
}

func TestShared_HolderThatIsLeftKeepsOnlyWhatIsShared(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	upstream := serve(t, "127.0.0.1:0")
	shared, base, own := ports.FreePort(t), ports.FreePort(t), ports.FreePort(t)
	one := w.allowedProject("linger = 1\n" + tcpConfig("web", shared, upstream) + "depends_on = [\"base\"]\n" + tcpConfig("base", base, upstream) + tcpConfig("own", own, upstream))
	two := w.allowedProject(tcpConfig("web", shared, upstream) + tcpConfig("base", base, upstream))
	leave := w.use(one)
	eventually(t, "the first project is up", func() bool { return w.state(one).Supervisor != nil && w.service(one, "own").IsReady() })
	w.mustRun(two, "start")
	w.requireOneHolder([]string{one, two}, "web")
	leave()
	eventually(t, "the port that nobody shares is closed", func() bool { return w.service(one, "own").State == forwarder.Stopped })
	if web, needed := w.service(one, "web"), w.service(one, "base"); !web.IsReady() || !needed.IsReady() {
		t.Errorf("web is %s, base is %s", web.State, needed.State)
	}
	w.mustRun(two, "stop", "web")
	eventually(t, "what is no longer shared is closed", func() bool { return w.service(one, "web").State == forwarder.Stopped })
	if needed := w.service(one, "base"); !needed.IsReady() {
		t.Errorf("base is %s", needed.State)
	}
	w.mustRun(two, "start", "web")
	if got := w.mustRun(one, "exec", "--", "sh", "-c", "echo $OWN_PORT"); got != fmt.Sprintln(own) {
		t.Errorf("who comes back gets %q", got)
	}
	w.mustRun(two, "stop")
	eventually(t, "the first project ends", func() bool { return w.state(one).Supervisor == nil })
}

// use runs a command in a project until leave is called.
func (w *testEnv) use(root string) (leave func()) {
	w.t.Helper()
	cmd := w.command(root, "exec", "--", "cat")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	leave = sync.OnceFunc(func() { stdin.Close(); _ = cmd.Wait() })
	w.t.Cleanup(leave)
	return leave
}

// Two projects that lend to each other do not keep each other up.
func TestShared_EachOthersLeasesAreNotEnough(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	upstream := serve(t, "127.0.0.1:0")
	roots := w.projectsWithSameConfig(2, "linger = 1\n"+tcpConfig("one", ports.FreePort(t), upstream)+tcpConfig("two", ports.FreePort(t), upstream))
	leaveFirst := w.use(roots[0])
	eventually(t, "the first project is up", func() bool { return w.state(roots[0]).Supervisor != nil && w.service(roots[0], "two").IsReady() })
	leaveSecond := w.use(roots[1])
	eventually(t, "the second project shares both", func() bool {
		return w.state(roots[1]).Supervisor != nil && w.service(roots[1], "one").State == forwarder.Shared && w.service(roots[1], "two").State == forwarder.Shared
	})
	w.mustRun(roots[0], "stop", "two")
	eventually(t, "the second project has the second port", func() bool { return w.service(roots[1], "two").State == forwarder.Healthy })
	w.mustRun(roots[0], "exec", "-s", "two", "--", "true")
	eventually(t, "each shares one of the other's", func() bool {
		return w.service(roots[0], "two").State == forwarder.Shared && w.service(roots[1], "one").State == forwarder.Shared
	})
	leaveFirst()
	leaveSecond()
	eventually(t, "both end", func() bool { return len(w.processes()) == 0 })
}

func TestShared_OtherTargetFailsAndNamesBoth(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	theirs, ours := serve(t, "127.0.0.1:0"), serve(t, "127.0.0.1:0")
	one, two := w.allowedProject(tcpConfig("one", port, theirs)), w.allowedProject(tcpConfig("two", port, ours))
	w.mustRun(one, "start")
	o := w.localport(two, "start")
	for _, want := range []string{"the project of " + one, "tcp " + theirs.addr, "tcp " + ours.addr, `"one"`} {
		if o.code != output.ExitFailed || !strings.Contains(o.stderr, want) {
			t.Errorf("exit %d, no %q in %q", o.code, want, o.stderr)
		}
	}
	if svc := w.service(two, "two"); svc.State != forwarder.Failed || svc.Held || svc.Shared != nil {
		t.Errorf("%+v", svc)
	}
	if leases := w.borrowedLeases(one); len(leases) > 0 {
		t.Errorf("leases: %+v", leases)
	}

	w.writeFile(two, ".localport.toml", tcpConfig("two", port, theirs))
	w.mustRun(two, "allow")
	eventually(t, "it is shared once the target is the same", func() bool { return w.service(two, "two").State == forwarder.Shared })

	// The holder changes its target: the port goes to the project that still wants the former one.
	w.writeFile(one, ".localport.toml", tcpConfig("one", port, ours))
	w.mustRun(one, "allow")
	eventually(t, "the port has passed on", func() bool { return w.service(two, "two").State == forwarder.Healthy })
	eventually(t, "the former holder has failed", func() bool {
		svc := w.service(one, "one")
		return svc.State == forwarder.Failed && strings.Contains(svc.LastError, "the project of "+two)
	})
}

// Two projects reach the same service through contexts with other names, in other kubeconfig files. When the user moves the holder to another
// context, the port passes on to the project that stays.
func TestShared_KubernetesContexts(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	staging, production := serve(t, "127.0.0.1:0"), serve(t, "127.0.0.1:0")
	kubectl := fakekubectl.Install(t, fakekubectl.Script{Backend: staging.addr})
	w.env = append(w.env, "PATH="+kubectl.Dir+":"+os.Getenv("PATH"), "LOCALPORT_KUBECTL=kubectl", fakekubectl.ScriptVariable+"="+filepath.Join(kubectl.Dir, "script.json"))
	writeKubeconfig := func(name, token, current string) string {
		text := "current-context: " + current + "\nclusters:\n- {name: c, cluster: {server: \"https://127.0.0.1:1\"}}\n- {name: p, cluster: {server: \"https://127.0.0.1:2\"}}\n" +
			"users:\n- {name: u, user: {token: " + token + "}}\ncontexts:\n" +
			"- {name: " + name + ", context: {cluster: c, user: u, namespace: shop}}\n- {name: production, context: {cluster: p, user: u, namespace: shop}}\n"
		w.writeFile(w.home, name, text)
		return filepath.Join(w.home, name)
	}
	port := ports.FreePort(t)
	config := fmt.Sprintf("[services.db]\ntechnology = \"kubectl\"\nlocal_port = %d\nremote_port = 5432\nconnection = { resource_name = \"postgres\" }\n", port)
	roots := w.projectsWithSameConfig(3, config)
	start := func(root, kubeconfig string, args ...string) commandResult {
		cmd := w.command(root, args...)
		cmd.Env = append(slices.Clone(w.env), "KUBECONFIG="+kubeconfig)
		return w.run(cmd)
	}
	for i, name := range []string{"staging", "as-called-elsewhere"} {
		if o := start(roots[i], writeKubeconfig(name, "secret-one", name), "start"); o.code != 0 {
			t.Fatalf("exit %d: %s", o.code, o.stderr)
		}
	}
	if holder, _ := w.requireOneHolder(roots[:2], "db"); holder != roots[0] {
		t.Errorf("%s has the port", holder)
	}
	if starts := kubectl.Starts(t); len(starts) != 1 {
		t.Errorf("kubectl was started %d times", len(starts))
	}
	o := start(roots[2], writeKubeconfig("staging-of-another-user", "secret-two", "staging-of-another-user"), "start")
	if o.code != output.ExitFailed || !strings.Contains(o.stderr, "the project of "+roots[0]) || strings.Contains(o.stderr, "secret") {
		t.Errorf("as another user: exit %d, %q", o.code, o.stderr)
	}

	kubectl.SetScript(t, fakekubectl.Script{Backend: production.addr})
	writeKubeconfig("staging", "secret-one", "production")
	start(roots[0], filepath.Join(w.home, "staging"), "restart", "--no-wait")
	eventually(t, "the port has passed on", func() bool { return w.service(roots[1], "db").State == forwarder.Healthy })
	if svc := w.service(roots[1], "db"); !strings.Contains(svc.Target, "as-called-elsewhere") {
		t.Errorf("it leads to %s", svc.Target)
	}
	eventually(t, "the former holder says who has the port", func() bool {
		svc := w.service(roots[0], "db")
		return svc.State == forwarder.Failed && strings.Contains(svc.LastError, "the project of "+roots[1])
	})
}

// A project that is not allowed asks nobody.
func TestShared_ProjectThatIsNotAllowedBorrowsNothing(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	config := tcpConfig("web", port, serve(t, "127.0.0.1:0"))
	one, two := w.allowedProject(config), w.project(config)
	w.mustRun(one, "start")
	if o := w.localport(two, "start"); o.code == 0 {
		t.Errorf("start of a project that is not allowed: %q", o.stdout)
	}
	if leases := w.borrowedLeases(one); len(leases) > 0 || w.state(two).Supervisor != nil {
		t.Errorf("leases: %+v", leases)
	}
}

// An older supervisor does not know the request: the port is in use, as before.
func TestShared_OlderHolderFailsAsBefore(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	roots := w.projectsWithSameConfig(2, tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	w.mustRun(roots[0], "start")
	w.answerAsOlderSupervisor(roots[0])
	o := w.localport(roots[1], "start")
	if o.code != output.ExitFailed || !strings.Contains(o.stderr, "is already in use by the project of "+roots[0]) {
		t.Errorf("exit %d, %q", o.code, o.stderr)
	}
}

// answerAsOlderSupervisor puts a server in the place of a supervisor's socket that knows no request.
func (w *testEnv) answerAsOlderSupervisor(root string) {
	w.t.Helper()
	socket := w.state(root).Supervisor.Socket
	if err := os.Rename(socket, socket+".moved"); err != nil {
		w.t.Fatal(err)
	}
	ln, err := net.Listen("unix", socket)
	if err != nil {
		w.t.Fatal(err)
	}
	older := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Minute}
	var serving sync.WaitGroup
	serving.Go(func() { _ = older.Serve(ln) })
	w.t.Cleanup(func() { older.Close(); serving.Wait() })
}

// greetedConn is a connection to a server that greets.
type greetedConn struct {
	net.Conn
	reader *bufio.Reader
}

func connectAndGreet(t testing.TB, addr string) *greetedConn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &greetedConn{conn, bufio.NewReader(conn)}
	if err := c.greet("you"); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *greetedConn) greet(name string) error {
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, name+"\n"); err != nil {
		return err
	}
	got, err := c.reader.ReadString('\n')
	if err == nil && got != "hello "+name+"\n" {
		err = fmt.Errorf("sent %q, received %q", name, got)
	}
	return err
}
