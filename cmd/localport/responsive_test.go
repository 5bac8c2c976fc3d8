package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/testdata/ports"
)

// The calls of status and of the hook's export that are made during each slow operation.
const (
	callsPerOperation = 50
	concurrentCalls   = 4
	// callWindow is how long after the start of an operation calls are started: it ends well before the shortest operation, whose process
	// is killed 2 s after its SIGTERM. On a machine too slow for all calls, the operation is repeated.
	callWindow = time.Second
	// maxEmptyRounds is how many rounds in a row may pass without one group of calls that was answered before its operation had ended: on a
	// slow machine this can happen, but if the operation blocks the calls it happens in every round.
	maxEmptyRounds = 5
)

// slowProject has three services whose programs ignore SIGTERM, each depending on the one before, and independent ones.
type slowProject struct {
	w          *testEnv
	root       string
	config     string
	ports      map[string]int
	supervisor lockstate.Process
	children   map[string]lockstate.Process // by service
	callers    []*exec.Cmd                  // processes whose pids the calls of export pass as their shells'
}

var (
	slowServices        = []string{"a", "b", "c"}
	independentServices = []string{"child", "far"}
)

// startSlowProject creates and starts the project; more is config that is put before its own.
func startSlowProject(t *testing.T, w *testEnv, more string) *slowProject {
	t.Helper()
	p := &slowProject{w: w, ports: map[string]int{}, children: map[string]lockstate.Process{}}
	for _, name := range []string{"a", "b", "c", "child", "far", "metrics"} {
		p.ports[name] = ports.FreePort(t)
	}
	p.config = fmt.Sprintf("linger = 0.1\nmetrics_port = %d\n", p.ports["metrics"]) + more
	for i, name := range slowServices {
		p.config += sigtermIgnoringConfig(t, name, p.ports[name])
		if i > 0 {
			p.config += fmt.Sprintf("depends_on = [%q]\n", slowServices[i-1])
		}
	}
	p.config += commandConfig(t, "child", p.ports["child"]) + tcpConfig("far", p.ports["far"], serve(t, "127.0.0.1:0"))
	p.root = w.allowedProject(p.config)
	w.localport(p.root, "start", "--no-wait")
	w.mustRun(p.root, append([]string{"start"}, slices.Concat(slowServices, independentServices)...)...)
	eventually(t, "metrics are served", func() bool { return getMetrics(p.address("metrics")) != "" })
	p.supervisor = w.supervisor(p.root)
	for _, child := range findChildren(t, p.supervisor.PID) {
		if name := lastArgument(t, child.PID); slices.Contains(slowServices, name) {
			p.children[name] = child
		}
	}
	if len(p.children) != len(slowServices) {
		t.Fatalf("the children are %v", p.children)
	}
	for range concurrentCalls {
		caller := exec.Command("sleep", "600")
		if err := caller.Start(); err != nil {
			t.Fatal(err)
		}
		p.callers = append(p.callers, caller)
	}
	t.Cleanup(p.endCallers)
	return p
}

func (p *slowProject) endCallers() {
	for _, caller := range p.callers {
		_ = caller.Process.Kill()
		_ = caller.Wait()
	}
	p.callers = nil
}

// stop ends the callers and stops the project.
func (p *slowProject) stop() {
	p.w.t.Helper()
	p.endCallers()
	eventually(p.w.t, "the leases of the callers were dropped", func() bool { return slices.Equal(p.w.document(p.root).kinds(), []string{"start"}) })
	p.w.stopProject(p.root)
}

// sigtermIgnoringConfig is commandConfig with a program that ignores SIGTERM; the service's name is its last argument.
func sigtermIgnoringConfig(t *testing.T, name string, port int) string {
	config := strings.Replace(commandConfig(t, name, port), upstreamVariable+"=1", upstreamVariable+"="+ignoreSIGTERM, 1)
	return strings.Replace(config, `"{port}"`, fmt.Sprintf(`"{port}", %q`, name), 1)
}

func lastArgument(t *testing.T, pid int) string {
	t.Helper()
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		t.Fatal(err)
	}
	args := bytes.Split(bytes.TrimSuffix(line, []byte{0}), []byte{0})
	return string(args[len(args)-1])
}

func (p *slowProject) address(name string) string { return fmt.Sprintf("127.0.0.1:%d", p.ports[name]) }

// listens reports whether a client is accepted at a service's port.
func listens(addr string) bool {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// aliveServices returns the slow services whose first program is still running.
func (p *slowProject) aliveServices() (names []string) {
	for _, name := range slowServices {
		if p.children[name].IsAlive() {
			names = append(names, name)
		}
	}
	return names
}

// reply is the result of a call.
type reply struct {
	commandResult
	call    string
	isEarly bool // the call was started before the operation was accepted
	alive   []string
}

// slowOperation is an operation that takes the supervisor long.
type slowOperation struct {
	accepted func() bool                     // the operation was accepted; nil: before the first call
	ended    func() bool                     // the operation has ended
	status   func(d document, r reply) error // checks a status that was requested after the operation was accepted
	variable map[string]bool                 // whether a shell that enters after that has a variable
	metric   string                          // a line that the metrics have after that; empty: any
}

// callDuring makes up to number calls, in small groups, until callWindow is over, and checks every reply. It returns how many were answered
// before the operation had ended; a group that was answered later does not count and is the last.
func (p *slowProject) callDuring(t *testing.T, op slowOperation, number int) (made int) {
	t.Helper()
	for startTime := time.Now(); made < number && time.Since(startTime) < callWindow; made += concurrentCalls {
		replies := make([]reply, concurrentCalls)
		isEarly := op.accepted != nil && !op.accepted()
		var calling sync.WaitGroup
		for i := range replies {
			calling.Go(func() {
				args := []string{"status", "--json"}
				if i%2 == 1 {
					args = []string{"export", "bash", "--pid", fmt.Sprint(p.callers[i].Process.Pid), "--root", "", "--line", "", "--told", ""}
				}
				o := p.w.localport(p.root, args...)
				replies[i] = reply{commandResult: o, call: args[0], isEarly: isEarly, alive: p.aliveServices()}
			})
		}
		calling.Go(func() {
			text := getMetrics(p.address("metrics"))
			if op.metric != "" && !isEarly && !strings.Contains(text, op.metric+"\n") {
				t.Errorf("metrics lack %s in %q", op.metric, text)
			}
		})
		calling.Wait()
		hasEnded := op.ended()
		for _, r := range replies {
			p.checkReply(t, op, r)
		}
		if hasEnded {
			return made
		}
	}
	return made
}

func (p *slowProject) checkReply(t *testing.T, op slowOperation, r reply) {
	t.Helper()
	if r.code != 0 {
		t.Errorf("%s: exit %d, %s", r.call, r.code, r.stderr)
		return
	}
	if r.call == "export" {
		for name, want := range op.variable {
			if !r.isEarly && strings.Contains(r.stdout, "export "+name+"=") != want {
				t.Errorf("export: %s is set: %v, want %v; stderr: %q", name, !want, want, r.stderr)
			}
		}
		return
	}
	d := parseDocument(t, r.stdout)
	for _, name := range independentServices {
		if svc := d.service(name); svc.State != "healthy" && svc.State != "starting" || !svc.Held {
			t.Errorf("the independent service %s is %+v", name, svc)
		}
	}
	if r.isEarly {
		return
	}
	if err := op.status(d, r); err != nil {
		t.Error(err)
	}
}

// checkStopped returns a check that services are shown as stopped, and as ending while their programs run.
func checkStopped(names ...string) func(document, reply) error {
	return func(d document, r reply) error {
		for _, name := range names {
			svc := d.service(name)
			if svc.State != "stopped" || svc.Held || slices.Contains(r.alive, name) && !svc.Ending {
				return fmt.Errorf("status shows %+v; the programs of %v still run", svc, r.alive)
			}
		}
		return nil
	}
}

// repeatUntilCalled repeats an operation, each time in a new project, until callsPerOperation calls have been made during it.
func repeatUntilCalled(t *testing.T, do func(t *testing.T, number int) (made int)) {
	t.Helper()
	made, emptyRounds := 0, 0
	for rounds := 1; made < callsPerOperation && !t.Failed(); rounds++ {
		if rounds > 30 {
			t.Fatalf("only %d calls could be made", made)
		}
		answered := do(t, callsPerOperation-made)
		made += answered
		if emptyRounds++; answered > 0 {
			emptyRounds = 0
		}
		if emptyRounds == maxEmptyRounds {
			t.Fatalf("in %d rounds, calls were answered only after the operation had ended", emptyRounds)
		}
	}
	t.Logf("%d calls", made)
}

// startCommand starts a command that takes long; await waits for its result.
func (p *slowProject) startCommand(args ...string) (await func() commandResult, ended func() bool) {
	p.w.t.Helper()
	done := make(chan struct{})
	var o commandResult
	go func() {
		defer close(done)
		o = p.w.localport(p.root, args...)
	}()
	await = func() commandResult { <-done; return o }
	ended = func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	}
	return await, ended
}

// waitClosed waits until the ports of services are closed, and checks that this did not wait for the end of a program.
func (p *slowProject) waitClosed(t *testing.T, names ...string) {
	t.Helper()
	var addrs []string
	for _, name := range names {
		addrs = append(addrs, p.address(name))
	}
	eventually(t, "the ports are closed", func() bool { return !slices.ContainsFunc(addrs, listens) })
	if alive := p.aliveServices(); len(alive) != len(slowServices) {
		t.Errorf("the ports of %v were closed only when other programs than those of %v had ended", names, alive)
	}
}

func TestStatusAndPrompts_AreAnsweredWhileServicesStop(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	repeatUntilCalled(t, func(t *testing.T, number int) int {
		p := startSlowProject(t, w, "")
		await, _ := p.startCommand("stop", "a")
		p.waitClosed(t, slowServices...)
		made := p.callDuring(t, slowOperation{
			ended:    func() bool { return len(p.aliveServices()) == 0 },
			status:   checkStopped(slowServices...),
			variable: map[string]bool{"A_PORT": false, "B_PORT": false, "C_PORT": false, "CHILD_PORT": true, "FAR_PORT": true},
			metric:   fmt.Sprintf("localport_state{project=%q,service=\"a\",technology=\"command\",state=\"stopped\"} 1", p.root),
		}, number)
		if o := await(); o.code != 0 {
			t.Errorf("stop: exit %d, %s", o.code, o.stderr)
		}
		eventually(t, "status shows that the programs have ended", func() bool {
			d := w.document(p.root)
			return len(p.aliveServices()) == 0 && !slices.ContainsFunc(slowServices, func(name string) bool { return d.service(name).Ending })
		})
		p.stop()
		return made
	})
}

func TestStatusAndPrompts_AreAnsweredWhileAChangedConfigIsApplied(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	repeatUntilCalled(t, func(t *testing.T, number int) int {
		p := startSlowProject(t, w, "")
		elsewhere := ports.FreePort(t)
		changed := strings.Replace(p.config, sigtermIgnoringConfig(t, "a", p.ports["a"]), sigtermIgnoringConfig(t, "a", elsewhere), 1)
		changed = strings.Replace(changed, sigtermIgnoringConfig(t, "c", p.ports["c"])+"depends_on = [\"b\"]\n", "", 1)
		w.writeFile(p.root, ".localport.toml", changed)
		hasMoved := func(d document) bool {
			svc := d.service("a")
			return strings.HasSuffix(svc.Address, fmt.Sprint(":", elsewhere)) && svc.Held
		}
		await, _ := p.startCommand("allow")
		p.waitClosed(t, "a", "c")
		made := p.callDuring(t, slowOperation{
			// The ports are closed before the new services are published and the new port is opened; it accepts clients before it is published.
			accepted: func() bool { return hasMoved(w.document(p.root)) },
			ended:    func() bool { return !p.children["a"].IsAlive() && !p.children["c"].IsAlive() },
			status: func(d document, r reply) error {
				if !hasMoved(d) {
					return fmt.Errorf("the service that was changed is shown as %+v", d.service("a"))
				}
				if svc := d.service("c"); svc.Name != "" && (svc.State != "stopped" || svc.Held) {
					return fmt.Errorf("the service that was removed is shown as %+v", svc)
				}
				return nil
			},
			variable: map[string]bool{"A_PORT": true, "C_PORT": false, "CHILD_PORT": true, "FAR_PORT": true},
		}, number)
		if o := await(); o.code != 0 {
			t.Errorf("allow: exit %d, %s", o.code, o.stderr)
		}
		checkServed(t, fmt.Sprintf("127.0.0.1:%d", elsewhere))
		p.stop()
		return made
	})
}

func TestStatusAndPrompts_AreAnsweredWhileTheSupervisorIsReplaced(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	repeatUntilCalled(t, func(t *testing.T, number int) int {
		p := startSlowProject(t, w, "")
		conn := dial(t, p.address("a")) // the replaced supervisor keeps serving it
		conn.exchangeLine("hi")
		await, returned := p.startCommand("daemon", "restart")
		made := p.callDuring(t, slowOperation{
			accepted: returned,
			ended:    func() bool { return !p.supervisor.IsAlive() },
			status: func(d document, _ reply) error {
				if d.Supervisor == nil || d.Supervisor.PID == p.supervisor.PID {
					return fmt.Errorf("after daemon restart the supervisor is shown as %+v", d.Supervisor)
				}
				return nil
			},
			variable: map[string]bool{"A_PORT": true, "B_PORT": true, "C_PORT": true, "CHILD_PORT": true, "FAR_PORT": true},
		}, number)
		if o := await(); o.code != 0 {
			t.Errorf("daemon restart: exit %d, %s", o.code, o.stderr)
		}
		if got := conn.exchangeLine("still here"); got != "hello still here\n" {
			t.Errorf("the connection answers %q", got)
		}
		conn.conn.Close()
		p.stop()
		return made
	})
}

// getMetrics returns the answer to GET /metrics; "" if there is none or it is an error. While one supervisor follows another, the port
// may be closed.
func getMetrics(addr string) string {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + addr + "/metrics")
	if err != nil {
		if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
			return "error: " + err.Error()
		}
		return ""
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return ""
	}
	return string(text)
}
