package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/relay"
	"github.com/localport-sh/localport/forwarder/service"
	"github.com/localport-sh/localport/project"
)

// simOutcome is how attempts to open a service's tunnel end.
type simOutcome int

const (
	simOpens simOutcome = iota
	simFails
	simNeedsLogin // until somebody changes what the failure rests on
	simMayPass    // as a 401 of a server that is starting
	simFailsPermanently
	simHangs
	simOutcomeCount
)

var simOutcomeNames = [simOutcomeCount]string{"opens", "fails", "needs login", "may pass", "fails permanently", "hangs"}

// simNetwork is what the services of a simulation connect to, and the ports of the machine.
type simNetwork struct {
	seed uint64

	mu           sync.Mutex // guards the fields below
	outcomes     map[string]simOutcome
	causeCh      map[string]chan struct{} // closed when what the failures of a service rest on changes
	ports        map[int]*simPort         // that are bound
	taken        map[int]bool             // by other programs
	lastAttempts map[string]time.Time     // to open a tunnel or bind a port, by process and service
	retries      map[string]*simRetries   // by process and service
	operations   int                      // commands and reloads that run: they may ask for attempts
	problem      string                   // the first attempt that was too early
}

// simRetries are the attempts of one service to open a tunnel.
type simRetries struct {
	failures  int       // in a row, since a tunnel was open for long
	sure      int       // the same, since anything that may begin a new series
	failedAt  time.Time // when the last attempt failed, if it is to be repeated after a delay; else zero
	begunAt   time.Time // when the last attempt began
	isExcused bool      // something has happened since that may bring the next one forward
	isAsked   bool      // a command, a reload or the network asks for the next one at once
}

// simStableTime is how long a tunnel has to be open to begin a new series of attempts.
const simStableTime = time.Minute + time.Second

// simRetryDelay is the longest delay after a number of failures in a row. The shortest one is a quarter shorter.
func simRetryDelay(failures int) time.Duration {
	return min(15*time.Second, time.Second<<min(failures-1, 10))
}

// excuseAttempts is called when something happens that may bring attempts forward.
func (n *simNetwork) excuseAttempts() { n.countOperation(0) }

// excuseAttemptsOfClients is called when a client connects: it may bring the next attempt forward once.
func (n *simNetwork) excuseAttemptsOfClients() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.retries {
		r.isExcused = true
	}
}

// countOperation is excuseAttempts for the begin (1) or end (-1) of an operation.
func (n *simNetwork) countOperation(by int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.operations += by
	for _, r := range n.retries {
		r.isExcused, r.isAsked, r.sure = true, true, 0
	}
}

// beginAttempt checks that an attempt to open a tunnel is not too early.
func (n *simNetwork) beginAttempt(process, name string) {
	n.recordAttempt(process, name)
	n.mu.Lock()
	defer n.mu.Unlock()
	key := process + " " + name
	r := n.retries[key]
	if r == nil {
		r = &simRetries{}
		n.retries[key] = r
	}
	since, interval := time.Since(r.failedAt), time.Since(r.begunAt)
	isExcused := (r.isExcused || n.hasWaitingClient(process)) && interval >= time.Second
	if !r.failedAt.IsZero() && !r.isAsked && n.operations == 0 && !isExcused && r.sure > 0 && since < simRetryDelay(r.sure)*3/4 && n.problem == "" {
		n.problem = fmt.Sprintf("%s: %s was tried again %v after failure %d", process, name, since, r.sure)
	}
	r.begunAt, r.failedAt, r.isExcused, r.isAsked = time.Now(), time.Time{}, false, false
}

// hasWaitingClient reports whether a client waits at a port of a process: at that of a service or of one that depends on it. n.mu is locked.
func (n *simNetwork) hasWaitingClient(process string) bool {
	for _, port := range n.ports {
		if port.process == process && port.Stats().Waiting > 0 {
			return true
		}
	}
	return false
}

// endAttempt records the outcome of an attempt, or the end of a tunnel that was open for a time.
func (n *simNetwork) endAttempt(process, name string, isRepeated bool, wasOpen time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.retries[process+" "+name]
	if r == nil {
		return
	}
	if wasOpen >= simStableTime {
		r.failures, r.sure = 0, 0
	}
	r.failures++
	if r.failedAt = (time.Time{}); isRepeated {
		r.sure++
		r.failedAt = time.Now()
	}
}

// findLateAttempt describes an attempt that is overdue.
func (n *simNetwork) findLateAttempt(process, name string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.retries[process+" "+name]
	if r == nil || r.failedAt.IsZero() || r.failures == 0 {
		return ""
	}
	if since := time.Since(r.failedAt); since > simRetryDelay(r.failures)+time.Second {
		return fmt.Sprintf("%s was not tried again within %v after failure %d", name, since, r.failures)
	}
	return ""
}

func (n *simNetwork) earlyAttempt() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.problem
}

// openTunnels returns the tunnels that are attached to the ports of a process, by service.
func (n *simNetwork) openTunnels(process string) map[string]*simTunnel {
	n.mu.Lock()
	defer n.mu.Unlock()
	found := map[string]*simTunnel{}
	for _, port := range n.ports {
		if t := port.attached(); port.process == process && t != nil {
			found[t.service.Name] = t
		}
	}
	return found
}

func newSimNetwork(seed uint64) *simNetwork {
	return &simNetwork{
		seed: seed, outcomes: map[string]simOutcome{}, causeCh: map[string]chan struct{}{},
		ports: map[int]*simPort{}, taken: map[int]bool{}, lastAttempts: map[string]time.Time{}, retries: map[string]*simRetries{},
	}
}

// setOutcome has the next attempts of a service end in another way.
func (n *simNetwork) setOutcome(name string, outcome simOutcome) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for key, r := range n.retries {
		if strings.HasSuffix(key, " "+name) {
			r.isExcused, r.sure = true, 0
		}
	}
	n.outcomes[name] = outcome
	if n.causeCh[name] != nil {
		close(n.causeCh[name])
	}
	n.causeCh[name] = make(chan struct{})
}

func (n *simNetwork) outcome(name string) (simOutcome, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.causeCh[name] == nil {
		n.causeCh[name] = make(chan struct{})
	}
	return n.outcomes[name], n.causeCh[name]
}

func (n *simNetwork) setTaken(port int, isTaken bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.taken[port] = isTaken
}

func (n *simNetwork) recordAttempt(process, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lastAttempts[process+" "+name] = time.Now()
}

func (n *simNetwork) lastAttempt(process, name string) time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lastAttempts[process+" "+name]
}

// releaseAll frees the ports of a process.
func (n *simNetwork) releaseAll(process string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for number, port := range n.ports {
		if port.process == process {
			delete(n.ports, number)
		}
	}
}

// bind is the bindPort of a supervisor.
func (n *simNetwork) bind(p *simProcess, svc project.Service, o relay.Options) (service.Port, error) {
	n.recordAttempt(p.name, svc.Name)
	n.mu.Lock()
	defer n.mu.Unlock()
	if p.hasEnded() || n.ports[svc.LocalPort] != nil || n.taken[svc.LocalPort] {
		return nil, errors.New("the port is in use")
	}
	port := &simPort{network: n, process: p.name, number: svc.LocalPort, options: o}
	n.ports[svc.LocalPort] = port
	return port, nil
}

// simPort is a port without sockets, with clients that wait.
type simPort struct {
	network *simNetwork
	process string
	number  int
	options relay.Options

	mu        sync.Mutex // guards the fields below
	waiting   int
	isHeld    bool // clients wait
	hasTunnel bool
	tunnel    *simTunnel // that is attached
}

func (p *simPort) attached() *simTunnel {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tunnel
}

func (p *simPort) change(edit func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	edit()
}

func (p *simPort) Attach(t forwarder.Tunnel) {
	p.change(func() { p.hasTunnel, p.waiting, p.tunnel = true, 0, t.(*simTunnel) })
}

func (p *simPort) Detach(forwarder.Tunnel) { p.change(func() { p.hasTunnel, p.tunnel = false, nil }) }
func (p *simPort) Hold()                   { p.change(func() { p.isHeld = true }) }
func (p *simPort) Reject()                 { p.change(func() { p.isHeld, p.waiting = false, 0 }) }
func (p *simPort) DropWaiting()            { p.change(func() { p.waiting = 0 }) }

func (p *simPort) Dial(context.Context) (net.Conn, error) { return nil, net.ErrClosed }
func (p *simPort) SetConnectTimeout(time.Duration)        {}
func (p *simPort) SetMaxConnections(int)                  {}
func (p *simPort) StopAccepting()                         { p.Release() }

func (p *simPort) Stats() relay.Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return relay.Stats{Waiting: p.waiting}
}

func (p *simPort) Release() {
	p.network.mu.Lock()
	defer p.network.mu.Unlock()
	if p.network.ports[p.number] == p {
		delete(p.network.ports, p.number)
	}
}

func (p *simPort) Close() error {
	p.Release()
	return nil
}

// connect has a client wait, unless a tunnel serves it or it is rejected.
func (p *simPort) connect() {
	isWaiting := false
	p.change(func() {
		if p.isHeld && !p.hasTunnel {
			p.waiting++
			isWaiting = true
		}
	})
	if isWaiting {
		p.options.OnWaiting()
	}
}

// simDriver opens tunnels of one supervisor.
type simDriver struct {
	network *simNetwork
	process *simProcess
}

func (simDriver) Target(svc project.Service) string { return svc.RemotePort }
func (simDriver) Close() error                      { return nil }

func (d simDriver) Open(ctx context.Context, svc project.Service, _ forwarder.Run) (forwarder.Tunnel, error) {
	d.network.beginAttempt(d.process.name, svc.Name)
	delay := time.Millisecond + time.Duration(pseudorandom(d.network.seed, svc.Name, int64(50*time.Millisecond)))
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	outcome, causeCh := d.network.outcome(svc.Name)
	failure := &forwarder.Failure{Reason: "the upstream " + simOutcomeNames[outcome], Hint: "wait"}
	switch outcome {
	case simOpens:
		return d.newTunnel(svc, causeCh), nil
	case simNeedsLogin:
		failure.Class, failure.AwaitChange = forwarder.NeedsUser, func(ctx context.Context) bool {
			select {
			case <-causeCh:
				return true
			case <-ctx.Done():
				return false
			}
		}
	case simMayPass:
		failure.Class, failure.MayPass = forwarder.NeedsUser, true
	case simFailsPermanently:
		failure.Class = forwarder.Permanent
	case simHangs:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	d.network.endAttempt(d.process.name, svc.Name, outcome == simFails && !svc.OnDemand, 0)
	return nil, failure
}

// simTunnel ends when its upstream changes.
type simTunnel struct {
	slowTunnel
	once     sync.Once
	failure  error
	service  project.Service // as it was when the tunnel was opened
	closedCh chan struct{}   // closed when the service closes it, unless the upstream ended it
}

func (t *simTunnel) isClosedByService() bool {
	select {
	case <-t.closedCh:
		return true
	default:
		return false
	}
}

func (d simDriver) newTunnel(svc project.Service, causeCh <-chan struct{}) *simTunnel {
	t := &simTunnel{slowTunnel: slowTunnel{done: make(chan struct{})}, service: svc, closedCh: make(chan struct{})}
	t.closeTime = time.Millisecond + time.Duration(pseudorandom(d.network.seed, svc.Name+" close", int64(time.Second)))
	openedAt := time.Now()
	go func() {
		select {
		case <-causeCh:
			if !t.isClosedByService() {
				d.network.endAttempt(d.process.name, svc.Name, !svc.OnDemand, time.Since(openedAt))
			}
			t.end(&forwarder.Failure{Reason: "the upstream closed the connection"})
		case <-d.process.endedCh:
			t.end(nil)
		case <-t.done:
		}
	}()
	return t
}

func (t *simTunnel) end(err error) { t.once.Do(func() { t.failure = err; close(t.done) }) }
func (t *simTunnel) Err() error    { return t.failure }
func (t *simTunnel) Close() error {
	select {
	case <-t.done:
	default:
		close(t.closedCh)
	}
	time.Sleep(t.closeTime)
	t.end(nil)
	return nil
}

// simConfig is a variant of the project's config.
type simConfig struct {
	revision                                        int
	hasExtra, otherRemote, otherLocal, otherTimeout bool
	isBaseDisabled, webNeedsExtra                   bool
}

// simServiceNames are the services that a config may have.
var simServiceNames = []string{"base", "web", "demand", "extra"}

const simBasePort = 10000

// load returns the config as a supervisor that has read it has it.
func (c simConfig) load(driver simDriver) (*loadedConfig, error) {
	l := &loadedConfig{
		files:   &project.Files{Config: fmt.Appendf(nil, "%+v", c)},
		project: &project.Project{Linger: 2 * time.Second}, ports: map[string]int{}, definitions: map[string]service.Definition{},
	}
	for i, name := range simServiceNames {
		svc := project.Service{
			Name: name, LocalPort: simBasePort + i, Technology: "sim", RemotePort: "1", Enabled: true, ConnectTimeout: 30 * time.Second,
			HealthCheck: project.HealthCheck{Type: "none"},
			RestartPolicy: project.RestartPolicy{
				Enabled: true, InitialDelay: time.Second, BackoffMultiplier: 2, MaxDelay: 15 * time.Second,
			},
		}
		switch name {
		case "base":
			svc.Enabled = !c.isBaseDisabled
			if c.otherRemote {
				svc.RemotePort = "2"
			}
		case "web":
			svc.DependsOn = []string{"base"}
			if c.otherTimeout {
				svc.ConnectTimeout = time.Minute
			}
			if c.webNeedsExtra && c.hasExtra {
				svc.DependsOn = append(svc.DependsOn, "extra")
			}
		case "demand":
			svc.OnDemand, svc.IdleTimeout = true, 20*time.Second
			if c.otherLocal {
				svc.LocalPort += 100
			}
		case "extra":
			if !c.hasExtra {
				continue
			}
		}
		d, err := service.Define(svc, driver)
		if err != nil {
			return nil, err
		}
		l.project.Services = append(l.project.Services, svc)
		l.definitions[name] = d
	}
	return l, nil
}

// longestAttempt is the longest time in which a service that is not running makes no attempt: the longest timeout, then the longest delay.
const longestAttempt = 35*time.Second + 15*time.Second + 10*time.Second

// findServiceProblem describes a service that should run, does not, and neither tries again nor says what it waits for.
func (n *simNetwork) findServiceProblem(s *Supervisor, p *simProcess) string {
	active := s.active.Load()
	wanted := wantedServices(active.project, s.selection())
	if early := n.earlyAttempt(); early != "" {
		return early
	}
	tunnels := n.openTunnels(p.name)
	for _, svc := range active.project.Services {
		now := active.services[svc.Name].Snapshot()
		isWanted := slices.Contains(wanted, svc.Name)
		if !reflect.DeepEqual(now.Service, svc) {
			return fmt.Sprintf("%s runs as %+v, and the config has %+v", svc.Name, now.Service, svc)
		}
		if t := tunnels[svc.Name]; t != nil && t.service.RemotePort != svc.RemotePort {
			return fmt.Sprintf("%s forwards to port %s, and the config has %s", svc.Name, t.service.RemotePort, svc.RemotePort)
		}
		switch now.State {
		case forwarder.Stopped:
			if isWanted {
				return svc.Name + " should run, and is stopped"
			}
		case forwarder.Failed, forwarder.NeedsAttention, forwarder.Unhealthy:
			if now.LastError == "" {
				return fmt.Sprintf("%s is %s and does not say why", svc.Name, now.State)
			}
		case forwarder.Starting, forwarder.Restarting:
			if n.isBlocked(active, svc) && now.LastError != "" {
				continue // it says which dependency it waits for
			}
			if late := n.findLateAttempt(p.name, svc.Name); late != "" && now.LastError != "" && !n.isBlocked(active, svc) {
				return late
			}
			last := n.lastAttempt(p.name, svc.Name)
			if since := time.Since(last); since > longestAttempt && time.Since(now.Since) > longestAttempt {
				return fmt.Sprintf("%s is %s, and made no attempt for %v: %s", svc.Name, now.State, since, now.LastError)
			}
		}
		if slices.Contains(s.selection().stopped, svc.Name) && now.State != forwarder.Stopped {
			return fmt.Sprintf("%s should not run, and is %s", svc.Name, now.State)
		}
	}
	return ""
}

func (n *simNetwork) isBlocked(active *activeConfig, svc project.Service) bool {
	return slices.ContainsFunc(svc.DependsOn, func(name string) bool { return !active.services[name].Snapshot().State.IsReady() })
}
