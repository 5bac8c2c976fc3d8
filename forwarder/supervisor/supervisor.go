// Package supervisor keeps one project's services reachable for as long as anybody holds a lease on it. It is the background
// process that all shells of a project share.
//
// What clients ask for is answered from snapshots, which nothing that waits can hold up: a process, the disk, another service.
// What changes the project (an act) comes one after the other, each in two halves: the first opens and closes ports and is
// waited for, the second ends tunnels and is not.
package supervisor

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/forwarder/filelimit"
	"github.com/localport-sh/localport/forwarder/handoff"
	"github.com/localport-sh/localport/forwarder/memtrim"
	"github.com/localport-sh/localport/forwarder/relay"
	"github.com/localport-sh/localport/forwarder/service"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/trust"
)

// Options is what a supervisor needs to know.
type Options struct {
	Config   string // path of the project's config file
	Version  string // of this program
	Exe      string // this program: what a keeper starts again
	RunID    string // this supervisor's run id: eight letters or digits, new for each
	LogLevel *slog.LevelVar
	// OnStartResult tells whoever started it how the start went; called exactly once.
	OnStartResult func(client.Word)
	// Inherit takes over what a keeper holds; nil where a client started us.
	Inherit func() (*handoff.KeeperLink, *handoff.Inheritance, error)
}

// maxConcurrentChecks is how many services are checked at the same time.
const maxConcurrentChecks = 8

// Supervisor is one project's. Its parts are safe for concurrent use where they say so.
type Supervisor struct {
	options Options
	dir     *lockstate.Dir
	store   *store
	trust   trust.Store
	log     *slog.Logger
	logFile *eventlog.File
	runDir  runDirectory // of this run's private sockets
	started time.Time
	changes wait.Broadcast // of anything that status shows
	events  *eventPublisher
	env     *environment
	secrets atomic.Pointer[[]string]
	drivers drivers

	dependencies *service.Dependencies
	checkSlots   chan struct{}
	clientSlots  *relay.SlotAllocator // of the services' clients
	tunnelCount  atomic.Uint64        // numbers the runs of tunnels

	election    *lockstate.Election
	predecessor *lockstate.Supervisor // one that still lived when this one was elected; nil: none did
	inherited   *inheritance
	keeper      *handoffClient
	socket      *controlSocket

	active atomic.Pointer[activeConfig] // what runs; replaced as a whole

	operationSlot    chan struct{}        // held by the act that is under way
	leasesChangedCh  chan struct{}        // the leases may have changed
	shutdownCh       chan shutdownRequest // asks the loop of the leases for the end
	sessionCh        chan api.Session     // the newest environment of a newcomer
	successorStaleCh chan struct{}        // the keeper is to be told what is known
	hadWriteError    atomic.Bool          // something could not be written to the state
	isTerminated     atomic.Bool          // a SIGTERM ends this supervisor, and its keeper starts another
	pendingCheckCh   chan chan struct{}   // asks whether the files have changed; what is sent is closed when it is known
	lastClientCh     chan struct{}        // a service has lost its last client
	reloadedCh       chan struct{}        // the config was taken over anew
	isClosing        atomic.Bool          // the ports are being given up or handed over: no newcomer is answered any more
	endedCh          chan struct{}        // closed when the ports have been given up or handed over
	// isSuperseded: another supervisor has the election.
	isSuperseded atomic.Bool

	// startTask runs something until the function that it returns is called.
	startTask    func(run func(context.Context)) (end func())
	tasks        sync.WaitGroup // everything but services
	leaseWatcher leaseWatcher

	mu         sync.Mutex // guards the fields below, and is never held across anything that waits
	conditions conditions
	user       project.UserConfig
	// successorEndedCh is not nil once a successor has taken over; closed when the project ends.
	successorEndedCh <-chan struct{}
}

// Run is the lifecycle of a supervisor: be elected, take the config, open every port, say so, keep everything up until the last
// lease is gone, leave nothing behind. It returns when that is so, or when ctx ends.
func Run(ctx context.Context, o Options) error {
	s, err := newSupervisor(o)
	if err != nil {
		o.OnStartResult(client.Word{Outcome: client.Broken, Error: err.Error()})
		return err
	}
	defer func() { _ = s.logFile.Close() }()
	tasksCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	eventsCtx, endEvents := context.WithCancel(context.WithoutCancel(ctx))
	var publishing sync.WaitGroup
	publishing.Go(func() { s.events.run(eventsCtx) })
	defer publishing.Wait()
	defer endEvents()

	crashed, err := s.elect(ctx)
	if err != nil {
		o.OnStartResult(client.Word{Outcome: client.Broken, Error: err.Error()})
		return err
	}
	if s.election == nil {
		o.OnStartResult(client.Word{Outcome: client.Busy})
		return nil
	}
	s.sweepCrashed(crashed)
	s.startTask = taskStarter(context.WithoutCancel(ctx))
	// They end when the last tunnel has been closed, which is after work has ended.
	s.drivers = newDrivers(context.WithoutCancel(ctx), forwarder.Host{Dir: s.root(), Log: s.log})
	if err := s.prepare(ctx); err != nil {
		s.abortStart(err)
		cancel()
		s.stopTasks()
		return err
	}
	for _, part := range []func(context.Context){
		s.socket.serve, s.keeper.run, s.watchFiles, s.serveMetrics, s.watchNetwork, s.guardFiles, s.applySessions, s.keepSuccessorUpdated, s.answerPendingChecks, memtrim.Run,
		func(ctx context.Context) { watchSleep(ctx, sleepTime, s.onWake) },
		func(ctx context.Context) { s.store.retryWrites(ctx, s.endedCh) }, // then the state is a successor's
	} {
		s.tasks.Go(func() { part(tasksCtx) })
	}
	o.OnStartResult(client.Word{Outcome: client.Ready})

	s.awaitShutdown(ctx)
	s.drainIfReplaced(ctx)
	cancel()
	s.stopTasks()
	s.events.publish(eventlog.Event{Kind: eventlog.Ended, Run: o.RunID}, "")
	return errors.Join(s.socket.err(), s.runDir.remove())
}

func newSupervisor(o Options) (*Supervisor, error) {
	dir, err := lockstate.Open(o.Config)
	if _, unwritable := errors.AsType[*lockstate.WriteError](err); err != nil && !unwritable {
		return nil, err
	}
	data, err := lockstate.DataHome()
	if err != nil {
		return nil, err
	}
	s := &Supervisor{
		options: o, dir: dir, trust: trust.Store{Dir: filepath.Join(data, "trust")},
		started:      time.Now(),
		dependencies: service.NewDependencies(), checkSlots: make(chan struct{}, maxConcurrentChecks),
		clientSlots:   relay.NewSlotAllocator(filelimit.Current(), filelimit.Reserve(nil, 0)),
		operationSlot: make(chan struct{}, 1), leasesChangedCh: make(chan struct{}, 1), shutdownCh: make(chan shutdownRequest),
		sessionCh: make(chan api.Session, 1), successorStaleCh: make(chan struct{}, 1), pendingCheckCh: make(chan chan struct{}), lastClientCh: make(chan struct{}, 1), reloadedCh: make(chan struct{}, 1),
		endedCh: make(chan struct{}),
	}
	s.leaseWatcher.endWatch = make(map[lockstate.Process]func())
	s.env = newEnvironment(os.Environ(), o.RunID)
	s.logFile = eventlog.Open(dir.Log("supervisor"), s.mask, eventlog.Limits{})
	s.logFile.Carry()
	s.log = slog.New(s.logFile.Handler(o.LogLevel)).With("run", o.RunID)
	dir.Warn = func(text string) { s.log.Warn(text) }
	s.store = newStore(dir, s.log, s.onStateChange)
	s.events = newEventPublisher(dir, s.log, s.mask)
	s.keeper = &handoffClient{
		exe: o.Exe, log: s.log, onKeeperStarted: s.recordKeeper, missing: make(map[string]bool), missingCh: make(chan struct{}, 1),
	}
	s.socket = newControlSocket(s)
	return s, s.inheritFromKeeper()
}

// taskStarter gives a goroutine a lifecycle of its own within the one of ctx.
func taskStarter(ctx context.Context) func(func(context.Context)) func() {
	return func(run func(context.Context)) func() {
		own, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			run(own)
		}()
		return func() { cancel(); <-done }
	}
}

// mask takes the project's secrets out of a text.
func (s *Supervisor) mask(text string) string {
	if secrets := s.secrets.Load(); secrets != nil {
		return project.Mask(text, *secrets)
	}
	return project.Mask(text, nil)
}

func (s *Supervisor) root() string { return filepath.Dir(s.options.Config) }

// beginOperation returns when no other act is under way. Whoever has begun one calls endAct. The error is api.ErrEnding, or the
// context's.
func (s *Supervisor) beginOperation(ctx context.Context) error {
	select {
	case s.operationSlot <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.isClosing.Load() {
		s.endOperation()
		return api.ErrEnding
	}
	return nil
}

func (s *Supervisor) endOperation() { <-s.operationSlot }

// drainIfReplaced returns when every connection of a supervisor that was replaced has ended; at once if none was.
func (s *Supervisor) drainIfReplaced(ctx context.Context) {
	s.mu.Lock()
	passed := s.successorEndedCh
	s.mu.Unlock()
	if passed == nil {
		return
	}
	s.drainConnections(ctx, passed)
	s.keeper.disconnect()
}

// stopTimeout is how long the end may take: longer than any tunnel takes to open or to close. What is not over by then hangs in a
// file system, which nothing can interrupt but the end of the process.
const stopTimeout = 40 * time.Second

// stopTasks stops what still runs after the ports were given up. Nothing shared is touched any more.
func (s *Supervisor) stopTasks() {
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		s.active.Load().stopAll()
		s.leaseWatcher.close()
		s.tasks.Wait()
		if err := s.drivers.close(); err != nil {
			s.log.Error("close the technologies", "error", err)
		}
	}()
	if !wait.IsClosedWithin(stopTimeout, finished) {
		s.log.Error("something could not be ended; the process ends all the same", "after", stopTimeout)
	}
	// What left its process group on purpose is still ours: nothing stays.
	killed, err := sweepOrphans(s.options.RunID)
	s.log.Info("ended", "orphans_killed", killed, "error", err)
}

// conditions are what there is to say of files and ports that are not as they should be.
type conditions struct {
	pendingReason   string // a change of the files that does not run
	refusedFiles    refusedFiles
	userConfigError string
	pollingReason   string
	metricsError    string
	directoryError  string
}

// updateConditions changes the notes, and has status show it.
func (s *Supervisor) updateConditions(change func(*conditions)) {
	s.mu.Lock()
	before := s.conditions
	change(&s.conditions)
	changed := s.conditions != before
	s.mu.Unlock()
	if changed {
		s.changes.Announce()
	}
}
