// Package service keeps one service of a project reachable on its local port: it opens the port, opens tunnels, checks the
// service's health through them, and opens the next tunnel when one ends. A service is an explicit state machine that one
// goroutine owns; others send it requests and read its snapshot.
package service

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/forwarder/relay"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/probe/kinds"
	"github.com/localport-sh/localport/project"
)

// Host is what a supervisor provides to its services. Every function may be called concurrently.
type Host struct {
	Log          *slog.Logger
	Mask         func(string) string  // takes secrets out of a text
	Dir          string               // the project's root
	Environ      func() []string      // the environment of children
	Checks       chan struct{}        // holds one for each health check that runs; its capacity is the limit
	Seats        *relay.SlotAllocator // of the clients of all services
	Dependencies *Dependencies
	// Report makes an event known. Its texts are masked.
	Report func(eventlog.Event, forwarder.State)
	// OnChange is called after each new snapshot.
	OnChange func()
	// OnLastClient is called when the last client of the service has left.
	OnLastClient func()
	// NewRun makes what one tunnel needs, and a function that removes what it made.
	NewRun func(log *eventlog.File) (forwarder.Run, func(), error)
	// OpenPort gets the service's listeners, from another project of the user's if need be, and accepts clients on them.
	OpenPort func(ctx context.Context, svc project.Service, o relay.Options) (Port, error)
	// ExplainPort says why a port could not be had, and what to do.
	ExplainPort func(err error, svc project.Service) (reason, hint string)
	// OnPortOpened is called when a port that could not be had at first is open.
	OnPortOpened func()
}

// Port is the local side of a service: its listeners and the clients that came through them. *relay.Relay has most of it.
type Port interface {
	Attach(forwarder.Tunnel)
	Detach(forwarder.Tunnel)
	Hold()
	Reject()
	DropWaiting()
	Dial(ctx context.Context) (net.Conn, error)
	Stats() relay.Stats
	SetConnectTimeout(time.Duration)
	// StopAccepting closes the listeners of this process; a copy that another process has goes on collecting connections.
	StopAccepting()
	// Release closes the listeners wherever they are: when it returns, the port is free.
	Release()
	// Close releases the port and resets every client.
	Close() error
}

// Definition is what a service is: its entry in the config, and what opens its tunnels and checks its health.
type Definition struct {
	project.Service
	Driver forwarder.Driver
	check  probe.Check // nil: none is made
}

// Define makes the definition of a service. The error names what its health check cannot be made of.
func Define(svc project.Service, driver forwarder.Driver) (Definition, error) {
	check, err := kinds.New(svc.HealthCheck)
	return Definition{svc, driver, check}, err
}

// Service keeps one service reachable while it is started. New makes it, Run is its goroutine.
type Service struct {
	host  Host
	name  string
	lines *eventlog.File // what the tunnels' processes print

	requests chan request
	done     chan struct{} // closed when Run has returned
	jobs     sync.WaitGroup
	snapshot atomic.Pointer[Snapshot]
	figures  figures

	// Signals of the port. Each says "look now"; what is full says so already.
	waiting    chan struct{}
	lastClient chan struct{}
	network    chan struct{} // the network changed, or the machine slept
	room       chan struct{} // there is no room for further clients, or there is again
	proofs     chan forwarder.Tunnel
	refusals   chan tunnelRefusal
	panics     chan tunnelPanic

	// Everything below belongs to the goroutine of Run.
	phase      phase
	definition Definition
	status     status
	attempts   attempts

	port           Port            // nil while it is not ours
	portFailed     bool            // the status says why it is not
	released       Port            // one that was released and has not been closed yet
	releasing      chan struct{}   // closed when what was released is free; nil if nothing was since
	binding        chan bindResult // a bind that is under way; nil if none is
	cancelBind     context.CancelFunc
	bindTimer      *time.Timer
	bindWaiters    []chan<- struct{} // of those who wait until binding has been tried
	releaseWaiters []chan<- struct{} // of those who wait until the port is free

	opening      *opening // the attempt that is under way
	tunnel       forwarder.Tunnel
	removeRun    func() // removes what the tunnel's run had on disk
	connectedAt  time.Time
	health       *health
	cause        error         // why the last attempt or tunnel ended
	closing      chan struct{} // closed when what was being closed is gone
	stopWaiters  []chan<- struct{}
	stopAfter    []<-chan struct{} // what is to end before the tunnel does
	attemptTimer *time.Timer

	blockedOn       dependency // what the attempt that is due waits for; zero: for nothing
	dependencyAsked bool       // the dependency was told that a client waits
}

// tunnelRefusal is a refusal, and the tunnel that it came through.
type tunnelRefusal struct {
	tunnel  forwarder.Tunnel
	refusal forwarder.Refusal
}

// tunnelPanic is a panic in the relay, and the tunnel of the connection that it was about; nil if it was about none.
type tunnelPanic struct {
	tunnel  forwarder.Tunnel
	failure *forwarder.Failure
}

// attempts is what is remembered from one attempt to the next.
type attempts struct {
	failures   int       // in a row
	opened     int       // since the start
	startedAt  time.Time // of the last attempt
	askedAt    time.Time // when the user, or a changed config, asked for one last
	ask        string    // the socket where the user answers questions during the next attempt
	userNeeded bool      // the next attempt is pointless without the user
	urgent     bool      // a client waits for the next attempt, or the network has changed
	reason     string    // why the last tunnel is gone, as metrics have it; empty before the first
}

// New makes a service, which is stopped. lines takes what its tunnels' processes print, and is closed whenever the service is
// stopped.
func New(host Host, definition Definition, lines *eventlog.File) *Service {
	s := &Service{
		host: host, name: definition.Name, lines: lines,
		requests: make(chan request), done: make(chan struct{}),
		waiting: make(chan struct{}, 1), lastClient: make(chan struct{}, 1), network: make(chan struct{}, 1),
		room:   make(chan struct{}, 1),
		proofs: make(chan forwarder.Tunnel, 1), refusals: make(chan tunnelRefusal, 8), panics: make(chan tunnelPanic, 1),
		bindTimer: stoppedTimer(), attemptTimer: stoppedTimer(),
		definition: definition,
	}
	host.Dependencies.add(s.name, s.waiting)
	s.publish(func(st *status) {
		st.state, st.target = forwarder.Stopped, definition.Driver.Target(definition.Service)
	})
	return s
}

func stoppedTimer() *time.Timer {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return timer
}

// Run handles the service's inputs until ctx ends. When it returns, the port is closed and nothing of the service runs.
func (s *Service) Run(ctx context.Context) {
	defer close(s.done)
	for {
		in := s.nextInput(ctx)
		if in == nil {
			break
		}
		forwarder.Contain(func() { s.handle(ctx, in) }, func(failure *forwarder.Failure, stack []byte) { s.onPanic(ctx, failure, stack) })
	}
	s.step(ctx, eventStop)
	s.jobs.Wait()
	s.tellStopped()
	s.host.Dependencies.remove(s.name, s.waiting)
}

// handle turns an input into an event and carries out what follows.
func (s *Service) handle(ctx context.Context, in input) {
	if r, ok := in.(request); ok {
		defer s.answer(r)
	}
	if e, ok := in.classify(s); ok {
		s.step(ctx, e)
	}
}

// step makes one transition, and carries out what follows from it.
func (s *Service) step(ctx context.Context, e event) {
	before := s.phase
	next, actions := transition(before, e)
	if next != before {
		s.attemptTimer.Stop()
		s.bindTimer.Stop()
	}
	s.phase = next
	for _, a := range actions {
		s.perform(ctx, a)
	}
}

// onPanic takes a panic in the service's own goroutine: an error of ours that must cost one service and not the others. What
// was open is closed, and restart begins again.
func (s *Service) onPanic(ctx context.Context, failure *forwarder.Failure, stack []byte) {
	s.logPanic(failure, stack)
	s.cause = failure
	forwarder.Contain(func() { s.settle(); s.step(ctx, eventPanicked) }, s.logPanic)
}

func (s *Service) logPanic(failure *forwarder.Failure, stack []byte) {
	s.host.Log.Error("panic", "service", s.name, "reason", failure.Reason, "stack", string(stack))
}

// job runs what may take long beside the loop. Run waits for it.
func (s *Service) job(f func()) { s.jobs.Go(f) }

// relayOptions connect a relay's callbacks with the service. They are called by other goroutines and must not wait.
func (s *Service) relayOptions() relay.Options {
	return relay.Options{
		ConnectTimeout: s.definition.ConnectTimeout,
		Slots:          s.host.Seats,
		OnRoomChange:   func() { wait.Notify(s.room) },
		OnWaiting:      func() { wait.Notify(s.waiting) },
		OnLastClient:   func() { wait.Notify(s.lastClient); s.host.OnLastClient() },
		OnServerReached: func(t forwarder.Tunnel) {
			select {
			case s.proofs <- t:
			default:
			}
		},
		OnRefusal: func(t forwarder.Tunnel, refusal forwarder.Refusal) {
			select {
			case s.refusals <- tunnelRefusal{t, refusal}:
			default: // there are enough of them to know
			}
		},
		OnPanic: func(t forwarder.Tunnel, failure *forwarder.Failure, stack []byte) {
			s.logPanic(failure, stack)
			select {
			case s.panics <- tunnelPanic{t, failure}:
			default:
			}
		},
		Log: s.host.Log.With("service", s.name),
	}
}

// reset forgets everything when the service is started.
func (a *attempts) reset(now time.Time) { *a = attempts{askedAt: now} }

// request takes over what the user, or a changed config, wishes for the next attempt.
func (a *attempts) request(r request) {
	a.failures, a.opened, a.askedAt = 0, 0, r.at
	a.ask, a.userNeeded = cmp.Or(r.ask, a.ask), r.userNeeded || a.userNeeded
	a.reason = reasonAsked
}
