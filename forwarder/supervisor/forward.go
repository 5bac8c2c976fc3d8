package supervisor

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/journal"
	"github.com/localport-sh/localport/forwarder/relay"
	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/probe/kinds"
	"github.com/localport-sh/localport/project"
)

// attemptPace is the least time between two attempts that clients cause.
const attemptPace = time.Second

// openTimeout bounds one opening of a tunnel: longer than ssh's and kubectl's own limits, so that theirs speak first.
const openTimeout = 35 * time.Second

// loginTimeout bounds an opening that is a login: a person has to find a token, or to read a fingerprint.
const loginTimeout = 3 * time.Minute

// host is what a forward is given by its supervisor.
type host struct {
	log     *slog.Logger
	drivers drivers
	mask    func(string) string
	changes *changes
	board   *board
	dir     string          // the project's root
	environ func() []string // of its children
	checks  chan struct{}   // holds one for each check under way
	tell    func(journal.Event, forwarder.State)
	// begin makes what one tunnel needs: its run, and a function that removes the run's directory.
	begin func(lines *journal.File) (forwarder.Run, func(), error)
	// bind gets the service's listeners, from another project of this user's if need be.
	bind func(ctx context.Context, svc project.Service) (*relay.Listeners, error)
	// bound is told when a port was got after the start.
	bound   func()
	keeping *keeping
	calm    chan<- struct{} // nudged when the last client has gone
}

// forward is a service being kept up. One loop owns its course; others see its status and give it orders.
type forward struct {
	host
	name  string        // of its service
	lines *journal.File // what the children say

	orders  chan order
	waiting chan struct{} // a client began to wait
	refused chan forwarder.Refusal
	proved  chan struct{}           // a client's connection got its first byte
	quiet   chan struct{}           // the last client left
	woken   chan struct{}           // the machine has slept, or its network has changed
	broke   chan *forwarder.Failure // a part of it has panicked

	mu     sync.Mutex
	relay  gate // nil while the port is not ours
	status status
	figures
	begun  time.Time          // when it was started last
	cancel context.CancelFunc // nil while it is stopped
	done   chan struct{}

	// The loop's own.
	svc      project.Service
	check    probe.Check
	failures int       // in a row
	tried    time.Time // when the last attempt began
	asked    time.Time // when the user asked for one last
	ask      string    // where the user answers questions during the next attempt
	needed   bool      // without that the next attempt is pointless
	urgent   bool      // a client waits for the next attempt, or the machine has slept
	opened   int       // tunnels since the start
	rest     rest
	why      string // the last tunnel is no more; empty before the first
}

// status is what others see of a forward.
type status struct {
	state     forwarder.State
	since     time.Time
	upSince   time.Time // zero while there is no tunnel
	restarts  int
	failures  int    // attempts in a row
	run       string // of the tunnel
	down      bool   // the user was told that it failed
	lastError string
	hint      string
	checked   time.Time
	latency   time.Duration
	svc       project.Service
	target    string
}

// order is what a user or a reload asks of a running forward.
type order struct {
	svc    *project.Service // not nil: what it is from now on
	keep   bool             // the tunnel is to stay: what is new does not touch it
	ask    string           // where the user answers questions; empty: nobody does
	needed bool             // without the user the service cannot be had
	given  time.Time        // when the user, or a changed config, wished for it
}

func newForward(h host, svc project.Service, lines *journal.File) (*forward, error) {
	f := &forward{
		host: h, name: svc.Name, lines: lines,
		orders:  make(chan order, 1),
		waiting: make(chan struct{}, 1),
		refused: make(chan forwarder.Refusal, 8),
		proved:  make(chan struct{}, 1),
		quiet:   make(chan struct{}, 1),
		woken:   make(chan struct{}, 1),
		broke:   make(chan *forwarder.Failure, 1),
	}
	if err := f.become(svc); err != nil {
		return nil, err
	}
	f.publish(func(s *status) { s.state = forwarder.Stopped })
	return f, nil
}

// become takes a definition on; the loop, or whoever makes the forward, calls it.
func (f *forward) become(svc project.Service) error {
	if _, err := f.drivers.of(svc); err != nil {
		return err
	}
	check, err := kinds.New(svc.HealthCheck)
	if err != nil {
		return err
	}
	f.svc, f.check = svc, check
	target := f.drivers.target(svc)
	f.publish(func(s *status) { s.svc, s.target = svc, target })
	return nil
}

// publish changes what others see.
func (f *forward) publish(change func(*status)) {
	f.mu.Lock()
	before := f.status.state
	change(&f.status)
	if f.status.state != before {
		f.status.since = time.Now()
		f.log.Info("state", "service", f.svc.Name, "tunnel", f.status.run, "from", before, "to", f.status.state, "error", f.status.lastError)
		if before != "" { // it was only made
			f.announce(journal.StateChanged, before)
		}
	}
	f.announceTrouble(before)
	f.board.put(f.name, f.status.state, f.waiting)
	f.mu.Unlock()
	f.changes.tell()
}

// announce makes a change known. f.mu is held.
func (f *forward) announce(kind journal.Kind, from forwarder.State) {
	s := f.status
	f.tell(journal.Event{
		Kind: kind, Service: f.name, From: string(from), To: string(s.state), Reason: s.lastError, Hint: s.hint, Run: s.run,
	}, s.state)
}

// patience is how many attempts in a row may fail before the user is told: what heals in a moment is no news.
const patience = 3

// announceTrouble makes known, once, that the service cannot be had, and once that it can be had again.
func (f *forward) announceTrouble(before forwarder.State) {
	s := &f.status
	switch s.state {
	case forwarder.Failed, forwarder.NeedsAttention, forwarder.Unhealthy:
	case forwarder.Restarting:
		if s.failures < patience {
			return
		}
	case forwarder.Healthy, forwarder.Idle:
		if s.down {
			s.down = false
			f.announce(journal.Recovered, before)
		}
		return
	case forwarder.Stopped:
		s.down = false
		return
	default:
		return
	}
	if !s.down {
		s.down = true
		f.announce(journal.Failed, before)
	}
}

// enter changes the state alone.
func (f *forward) enter(state forwarder.State) {
	f.publish(func(s *status) { s.state = state })
}

// trouble records what went wrong last.
func (f *forward) trouble(state forwarder.State, reason, hint string) {
	reason, hint = f.mask(reason), f.mask(hint)
	f.publish(func(s *status) { s.state, s.lastError, s.hint = state, reason, hint })
}

// start begins the loop, unless it runs. The relay is bound when it returns, or the state says why not.
func (f *forward) start(ctx context.Context) {
	f.mu.Lock()
	running := f.cancel != nil
	if !running {
		f.begun = time.Now()
		ctx, f.cancel = context.WithCancel(ctx)
		f.done = make(chan struct{})
	}
	f.mu.Unlock()
	if running {
		return
	}
	f.failures, f.opened, f.tried, f.asked, f.ask, f.needed, f.urgent, f.why = 0, 0, time.Time{}, time.Now(), "", false, false, ""
	f.rest = rest{kind: now}
	if f.svc.OnDemand {
		f.rest.kind = asleep
	}
	f.publish(func(s *status) { s.restarts, s.failures, s.lastError, s.hint = 0, 0, "", "" })
	f.enter(f.rest.state(f))
	bound := f.acquire(ctx)
	go func() {
		defer close(f.done)
		forwarder.Contain(func() { f.run(ctx, bound) }, f.fellApart)
	}()
}

// broken takes a panic in a part of the forward, which its loop then ends.
func (f *forward) broken(failure *forwarder.Failure, stack []byte) {
	f.log.Error("broke", "service", f.name, "reason", failure.Reason, "stack", string(stack))
	select {
	case f.broke <- failure:
	default:
	}
}

// fellApart takes a panic in the loop itself: the forward is down, and may be started again.
func (f *forward) fellApart(failure *forwarder.Failure, stack []byte) {
	f.broken(failure, stack)
	f.mu.Lock()
	f.cancel()
	f.cancel = nil
	f.mu.Unlock()
	f.trouble(forwarder.Failed, failure.Reason, failure.Hint)
}

// release closes the port at once; what is established goes on until stop.
func (f *forward) release() {
	f.keeping.drop(keptService(f.name))
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.relay != nil {
		f.relay.StopAccepting()
	}
}

// stop closes the port, ends the tunnel and returns when nothing is left.
func (f *forward) stop() {
	f.mu.Lock()
	cancel, done := f.cancel, f.done
	f.mu.Unlock()
	if cancel == nil {
		return
	}
	f.release()
	cancel()
	<-done
	f.mu.Lock()
	f.cancel = nil
	f.mu.Unlock()
	_ = f.lines.Close()
	f.publish(func(s *status) {
		s.state, s.lastError, s.hint, s.upSince = forwarder.Stopped, "", "", time.Time{}
	})
}

// running reports whether the loop runs.
func (f *forward) running() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cancel != nil
}

// justStarted reports whether the forward was started a moment ago.
func (f *forward) justStarted() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Since(f.begun) < 2*time.Second
}

// give hands an order to the loop; a second one before the first was taken replaces it.
func (f *forward) give(o order) {
	o.given = time.Now() // not when it is obeyed: what has failed meanwhile for another service need not be tried again
	select {
	case old := <-f.orders:
		o.keep = o.keep && old.keep
		o.ask, o.needed = cmp.Or(o.ask, old.ask), o.needed || old.needed
		if o.svc == nil {
			o.svc = old.svc
		}
	default:
	}
	f.orders <- o
}

// run is the forward's course: wait until an attempt is due, open a tunnel, carry until it ends, see why.
func (f *forward) run(ctx context.Context, bound bool) {
	defer f.drop()
	if !bound && !f.acquireLater(ctx) {
		return
	}
	for f.await(ctx) && f.prerequisites(ctx) {
		err := f.attempt(ctx)
		if ctx.Err() != nil {
			return
		}
		f.settle(err)
	}
}

// attempt opens a tunnel and carries until it ends; the error says why it did.
func (f *forward) attempt(ctx context.Context) error {
	f.tried = time.Now()
	f.opened++
	run, clean, err := f.begin(f.lines)
	if err != nil {
		return &forwarder.Failure{Reason: err.Error()}
	}
	defer clean()
	run.Asked, run.Urgent, run.Ask = f.asked, f.urgent, f.ask
	needed := f.needed
	f.ask, f.needed, f.urgent = "", false, false
	f.count(run.ID)
	f.enter(f.working())
	tunnel, err := f.open(ctx, run)
	if err != nil && needed {
		return unhelped(err)
	}
	if err != nil {
		return err
	}
	return f.carry(ctx, tunnel)
}

// count counts a tunnel that is about to be opened; every one but the first is a restart.
func (f *forward) count(run string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.run = run
	if f.why != "" {
		if f.restarts == nil {
			f.restarts = make(map[string]uint64)
		}
		f.restarts[f.why]++
	}
	f.why = reasonNotOpened // until it is open
}

// working is the state of an attempt: the first tunnel is started, the others are restarts.
func (f *forward) working() forwarder.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.opened > 1 {
		f.status.restarts = f.opened - 1
	}
	if f.status.state == forwarder.Restarting {
		return forwarder.Restarting
	}
	return forwarder.Starting
}

// errOrdered ends an attempt because of an order, not of a failure.
var errOrdered = errors.New("ordered")

// errAnew ends an attempt that may be under way to where there is no way any more.
var errAnew = errors.New("anew")

// errQuiet ends the tunnel of an on-demand service that nobody has used for its idle_timeout.
var errQuiet = errors.New("idle")

// open opens a tunnel, or gives up when an order comes.
func (f *forward) open(ctx context.Context, run forwarder.Run) (forwarder.Tunnel, error) {
	timeout := openTimeout
	if run.Ask != "" {
		timeout = loginTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	type result struct {
		tunnel forwarder.Tunnel
		err    error
	}
	results := make(chan result, 1)
	svc := f.svc
	go forwarder.Contain(func() {
		tunnel, err := f.drivers.open(ctx, svc, run)
		results <- result{tunnel, err}
	}, func(failure *forwarder.Failure, stack []byte) {
		f.log.Error("broke", "service", f.name, "reason", failure.Reason, "stack", string(stack))
		results <- result{nil, failure}
	})
	for {
		select {
		case r := <-results:
			if _, said := errors.AsType[*forwarder.Failure](r.err); r.err != nil && !said && errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil, &forwarder.Failure{Reason: "the tunnel was not ready after " + timeout.String()}
			}
			return r.tunnel, r.err
		case <-f.woken:
			if run.Ask != "" || time.Since(f.tried) < attemptPace {
				continue
			}
			cancel()
			if r := <-results; r.tunnel != nil {
				return r.tunnel, nil
			}
			return nil, errAnew
		case o := <-f.orders:
			err := f.obey(o)
			if err == nil {
				continue
			}
			cancel()
			if r := <-results; r.tunnel != nil {
				_ = r.tunnel.Close()
			}
			return nil, err
		}
	}
}

// obey takes an order on. It returns nil if the tunnel may stay, errOrdered if there is to be a new one, or why the
// order cannot be taken.
func (f *forward) obey(o order) error {
	if o.svc != nil {
		if err := f.become(*o.svc); err != nil {
			return &forwarder.Failure{Class: forwarder.Permanent, Reason: err.Error()}
		}
		if f.relay != nil {
			f.relay.SetConnectTimeout(f.svc.ConnectTimeout)
		}
	}
	if o.keep {
		return nil
	}
	f.failures, f.opened, f.asked, f.ask, f.needed = 0, 0, o.given, o.ask, o.needed
	f.why = reasonAsked
	return errOrdered
}
