package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
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
}

func newSimNetwork(seed uint64) *simNetwork {
	return &simNetwork{
		seed: seed, outcomes: map[string]simOutcome{}, causeCh: map[string]chan struct{}{},
		ports: map[int]*simPort{}, taken: map[int]bool{}, lastAttempts: map[string]time.Time{},
	}
}

// setOutcome has the next attempts of a service end in another way.
func (n *simNetwork) setOutcome(name string, outcome simOutcome) {
	n.mu.Lock()
	defer n.mu.Unlock()
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
}

func (p *simPort) change(edit func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	edit()
}

func (p *simPort) Attach(forwarder.Tunnel) { p.change(func() { p.hasTunnel, p.waiting = true, 0 }) }
func (p *simPort) Detach(forwarder.Tunnel) { p.change(func() { p.hasTunnel = false }) }
func (p *simPort) Hold()                   { p.change(func() { p.isHeld = true }) }
func (p *simPort) Reject()                 { p.change(func() { p.isHeld, p.waiting = false, 0 }) }
func (p *simPort) DropWaiting()            { p.change(func() { p.waiting = 0 }) }

func (p *simPort) Dial(context.Context) (net.Conn, error) { return nil, net.ErrClosed }
func (p *simPort) SetConnectTimeout(time.Duration)        {}
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
	d.network.recordAttempt(d.process.name, svc.Name)
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
		return d.newTunnel(svc.Name, causeCh), nil
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
	return nil, failure
}

// simTunnel ends when its upstream changes.
type simTunnel struct {
	slowTunnel
	once    sync.Once
	failure error
}

func (d simDriver) newTunnel(name string, causeCh <-chan struct{}) *simTunnel {
	t := &simTunnel{slowTunnel: slowTunnel{done: make(chan struct{})}}
	t.closeTime = time.Millisecond + time.Duration(pseudorandom(d.network.seed, name+" close", int64(time.Second)))
	go func() {
		select {
		case <-causeCh:
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
	for _, svc := range active.project.Services {
		now := active.services[svc.Name].Snapshot()
		isWanted := slices.Contains(wanted, svc.Name)
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
