// Package service keeps one service of a project reachable on its local port: it binds the port, opens a tunnel, checks the service's
// health through it, and opens another when it ends. A service is a state machine owned by one goroutine; others send requests and
// read snapshots.
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
	"github.com/localport-sh/localport/probe/builtin"
	"github.com/localport-sh/localport/project"
)

// Host is what a supervisor provides to its services. Every function must be safe for concurrent use.
type Host struct {
	Log          *slog.Logger
	Mask         func(string) string  // replaces secrets in a text
	Dir          string               // the project's root
	Environ      func() []string      // the environment of child processes
	CheckSlots   chan struct{}        // a semaphore: its capacity limits the health checks that run at once
	ClientSlots  *relay.SlotAllocator // of the clients of all services
	Dependencies *Dependencies
	// PublishEvent publishes an event, whose texts are masked, with the current state. It must not block.
	PublishEvent func(eventlog.Event, forwarder.State)
	// OnChange is called after each new snapshot.
	OnChange func()
	// OnStateChange is called after OnChange if the new snapshot has another state.
	OnStateChange func()
	// OnLastClient is called when the last client of a service disconnects.
	OnLastClient func()
	// NewRun makes the run of one tunnel, and a function that removes its files.
	NewRun func(ctx context.Context, log *eventlog.File) (forwarder.Run, func(), error)
	// OpenPort binds the service's listeners, or takes those that were handed over, and accepts clients on them.
	OpenPort func(ctx context.Context, svc project.Service, o relay.Options) (Port, error)
	// BorrowPort is called after an error of OpenPort: if another project has the port, and a tunnel to the same target, it is shared. requestedAt
	// is that of the run with which a tunnel would be opened. An error is ErrPortFreed, a *PortPendingError, or why the port cannot be had, for
	// ExplainPort. Nil: ports are not shared.
	BorrowPort func(ctx context.Context, d Definition, requestedAt time.Time, cause error) (SharedPort, error)
	// ExplainPort says why a port could not be bound, and what to do.
	ExplainPort func(err error, svc project.Service) (reason, hint string)
	// OnPortOpened is called when a port is bound or shared after an earlier bind failed.
	OnPortOpened func()
}

// Port is the local side of a service: its listeners and clients. *relay.Relay implements most of it.
type Port interface {
	Attach(forwarder.Tunnel)
	Detach(forwarder.Tunnel)
	Hold()
	Reject()
	DropWaiting()
	Dial(ctx context.Context) (net.Conn, error)
	Stats() relay.Stats
	SetConnectTimeout(time.Duration)
	SetMaxConnections(int)
	// StopAccepting closes the listeners of this process; connections queue at copies that other processes have.
	StopAccepting()
	// Release closes the listeners and the keeper's copies: when it returns, the port is free.
	Release()
	// Close releases the port and resets every client.
	Close() error
}

// Definition is a service's config, with its driver and its health check.
type Definition struct {
	project.Service
	Driver forwarder.Driver
	check  probe.Check // nil: the service is not checked
}

// Define makes the definition of a service. The error is about its health check.
func Define(svc project.Service, driver forwarder.Driver) (Definition, error) {
	check, err := builtin.NewCheck(svc.HealthCheck)
	return Definition{svc, driver, check}, err
}

// target is where the service leads, for status, without secrets.
func (d Definition) target() string { return d.MaskTarget(d.Driver.Target(d.Service)) }

// Service is one service of a project. Run must be running for its other methods to return.
type Service struct {
	host       Host
	name       string
	processLog *eventlog.File // output of the tunnels' processes

	requestCh chan request
	doneCh    chan struct{}  // closed when Run has returned
	jobs      sync.WaitGroup // goroutines for what may block; Run waits for them
	snapshot  atomic.Pointer[Snapshot]
	progress  progress
	counters  counters

	// Signals of the port, which are sent without blocking.
	waitingCh         chan struct{}
	lastClientCh      chan struct{}
	networkCh         chan struct{} // the network changed, or the machine slept
	shortageChangedCh chan struct{} // receives when the relay's Stats.Shortage has changed
	serverReachedCh   chan forwarder.Tunnel
	refusalCh         chan tunnelRefusal
	panicCh           chan tunnelPanic

	// The fields below belong to the goroutine of Run.
	phase      phase
	definition Definition
	status     status
	attempts   attemptHistory

	port             Port            // nil unless bound
	shared           SharedPort      // nil unless another project shares the port, or has until the bind that is running
	isKeptUp         bool            // see SetKeptUp
	isBindErrorShown bool            // the status shows why the port could not be bound
	isBindPending    bool            // the last bind found a *PortPendingError
	targetCount      int             // how often a definition was replaced by one that may lead elsewhere
	releasedPort     Port            // released, but not closed yet
	releaseDoneCh    chan struct{}   // closed when the released port is free; nil if none was released
	bindResultCh     chan bindResult // receives the result of the running bind; nil if none runs
	cancelBind       context.CancelFunc
	bindTimer        *time.Timer
	bindWaiters      []chan<- struct{} // callers that wait for the bind
	releaseWaiters   []chan<- struct{} // callers that wait for the release

	openAttempt  *openAttempt // the running attempt; nil if none runs
	tunnel       forwarder.Tunnel
	removeRun    func() // removes the files of the tunnel's run
	connectedAt  time.Time
	health       *healthMonitor
	endCause     error         // why the last attempt or tunnel ended
	closeDoneCh  chan struct{} // closed when closing is done; nil if nothing is being closed
	stopWaiters  []chan<- struct{}
	closeAfter   []<-chan struct{} // channels to wait for before the tunnel is closed
	attemptTimer *time.Timer

	causeChangedCh <-chan bool        // receives true when what the last failure rests on has changed, false when it may have; nil: nothing is awaited
	endAwaitChange context.CancelFunc // nil: nothing is awaited

	blockedOn            dependency // what the next attempt waits for; zero: nothing
	isDependencyNotified bool       // blockedOn was notified that a client waits
}

// tunnelRefusal is a refusal and the tunnel that reported it.
type tunnelRefusal struct {
	tunnel  forwarder.Tunnel
	refusal forwarder.Refusal
}

// reportQueueSize is how many reports of the relay of a kind wait for the run loop; further ones are dropped. It is enough
// for those about an earlier tunnel, whose connections may end late, and the current one's.
const reportQueueSize = 8

// tunnelPanic is a panic in the relay and the tunnel of the connection; nil if it concerned no connection.
type tunnelPanic struct {
	tunnel  forwarder.Tunnel
	failure *forwarder.Failure
}

// attemptHistory is what the service remembers from one attempt to the next.
type attemptHistory struct {
	failures      int       // in a row
	count         int       // attempts since the start
	startedAt     time.Time // of the last attempt
	mayPassSince  time.Time // of the first failure that may pass, since a tunnel was open; zero: there was none
	requestedAt   time.Time // of the last request of the user or a changed config
	changedAt     time.Time // when what the last failure rests on was last known to have changed, or was looked at again
	restartedAt   time.Time // of the last restart that the user requested; zero: none
	outdatedAt    time.Time // when the environment last changed, if no attempt has opened a tunnel or failed finally since; zero: it did not
	askSocket     string    // where the user answers questions during the next attempt
	needsUser     bool      // if the next attempt fails, the service needs attention
	isUrgent      bool      // a client waits, or the network has changed
	isRecheck     bool      // the next attempt finds out whether the last failure has passed; until it has, nothing of it is shown
	restartReason string    // why the last tunnel ended, as in the metrics; empty before the first
}

// New makes a stopped service. processLog takes the output of its tunnels' processes, and is closed whenever the service stops.
func New(host Host, definition Definition, processLog *eventlog.File) *Service {
	s := &Service{
		host: host, name: definition.Name, processLog: processLog,
		requestCh: make(chan request), doneCh: make(chan struct{}),
		waitingCh: make(chan struct{}, 1), lastClientCh: make(chan struct{}, 1), networkCh: make(chan struct{}, 1),
		shortageChangedCh: make(chan struct{}, 1),
		serverReachedCh:   make(chan forwarder.Tunnel, reportQueueSize), refusalCh: make(chan tunnelRefusal, reportQueueSize), panicCh: make(chan tunnelPanic, reportQueueSize),
		bindTimer: newStoppedTimer(), attemptTimer: newStoppedTimer(),
		definition: definition,
		counters:   counters{checksByResult: make(map[string]uint64), restartsByReason: make(map[string]uint64)},
	}
	host.Dependencies.add(s.name, s.waitingCh)
	s.publish(func(st *status) {
		st.state, st.target = forwarder.Stopped, definition.target()
	})
	return s
}

func newStoppedTimer() *time.Timer {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return timer
}

// Run is the run loop. It handles inputs until ctx ends. When it returns, the port is closed and nothing of the service runs.
func (s *Service) Run(ctx context.Context) {
	defer close(s.doneCh)
	for {
		in := s.nextInput(ctx)
		if in == nil {
			break
		}
		forwarder.CatchPanic(func() { s.handle(ctx, in) }, func(failure *forwarder.Failure, stack []byte) { s.onPanic(ctx, failure, stack) })
	}
	s.step(ctx, eventStop)
	s.jobs.Wait()
	notifyAll(&s.stopWaiters)
	s.host.Dependencies.remove(s.name, s.waitingCh)
}

// handle turns an input into an event and makes the transition.
func (s *Service) handle(ctx context.Context, in input) {
	if r, ok := in.(request); ok {
		defer s.acknowledge(r)
	}
	if e, ok := in.apply(s); ok {
		s.step(ctx, e)
	}
}

// step makes one transition and performs its actions.
func (s *Service) step(ctx context.Context, e event) {
	next, actions := transition(s.phase, e)
	if next != s.phase {
		s.attemptTimer.Stop()
		s.bindTimer.Stop()
		s.stopAwaitingChange()
	}
	s.phase = next
	for _, a := range actions {
		s.perform(ctx, a)
	}
}

// onPanic handles a panic in the run loop, which must affect no other service: everything that is open is closed, and the service
// has failed until it is restarted.
func (s *Service) onPanic(ctx context.Context, failure *forwarder.Failure, stack []byte) {
	s.logPanic(failure, stack)
	s.endCause = failure
	forwarder.CatchPanic(func() { s.publishEnd(); s.step(ctx, eventPanicked) }, s.logPanic)
}

func (s *Service) logPanic(failure *forwarder.Failure, stack []byte) {
	s.host.Log.Error("panic", "service", s.name, "reason", failure.Reason, "stack", string(stack))
}

// relayOptions connect a relay's callbacks to the run loop. The callbacks do not block.
func (s *Service) relayOptions() relay.Options {
	return relay.Options{
		ConnectTimeout:   s.definition.ConnectTimeout,
		MaxConnections:   s.definition.MaxConnections,
		Slots:            s.host.ClientSlots,
		OnShortageChange: func() { wait.Notify(s.shortageChangedCh) },
		OnWaiting:        func() { wait.Notify(s.waitingCh) },
		OnLastClient:     func() { wait.Notify(s.lastClientCh); s.host.OnLastClient() },
		OnServerReached:  func(t forwarder.Tunnel) { trySend(s.serverReachedCh, t) },
		OnRefusal: func(t forwarder.Tunnel, refusal forwarder.Refusal) {
			trySend(s.refusalCh, tunnelRefusal{t, refusal}) // further refusals say nothing new
		},
		OnPanic: func(t forwarder.Tunnel, failure *forwarder.Failure, stack []byte) {
			s.logPanic(failure, stack)
			trySend(s.panicCh, tunnelPanic{t, failure})
		},
		Log: s.host.Log.With("service", s.name),
	}
}

// trySend sends a value unless the channel is full.
func trySend[T any](ch chan<- T, value T) {
	select {
	case ch <- value:
	default:
	}
}

// applyRequest prepares for the next attempt, which the user or a changed config has requested.
func (a *attemptHistory) applyRequest(r request) {
	a.failures, a.mayPassSince, a.count, a.requestedAt, a.isRecheck = 0, time.Time{}, 0, r.requestedAt, false
	a.askSocket, a.needsUser = cmp.Or(r.askSocket, a.askSocket), r.needsUser || a.needsUser
	a.restartReason = restartReasonRequested
	if r.kind == requestRestart && r.askSocket == "" {
		a.restartedAt = r.requestedAt
	}
}
