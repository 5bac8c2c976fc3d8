// Package supervisor keeps one project's services reachable for as long as the project has leases. It is the background
// process that all shells of a project share.
//
// Reads are answered from snapshots and wait for nothing. Operations that change the project run one at a time, each in two
// halves: the first opens and closes ports and is waited for, the second ends tunnels in the background.
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
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/forwarder/relay"
	"github.com/localport-sh/localport/forwarder/service"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/trust"
)

// Options configure a supervisor.
type Options struct {
	Config   string // path of the project's config file
	Version  string // of this program
	Exe      string // path of this program, which a keeper starts again
	RunID    string // this supervisor's run id: eight letters or digits, new for each
	LogLevel *slog.LevelVar
	// OnStartResult reports to the starter how the start went. It is called exactly once.
	OnStartResult func(client.Readiness)
	// Inherit receives what a keeper holds; nil if a client started this supervisor.
	Inherit func() (*handoff.KeeperLink, *handoff.Inheritance, error)
}

// maxConcurrentChecks is the limit on health checks that run at the same time.
const maxConcurrentChecks = 8

// Supervisor runs the services of one project. Its exported methods are safe for concurrent use.
type Supervisor struct {
	options   Options
	dir       *lockstate.Dir
	store     *store
	source    configSource
	log       *slog.Logger
	logFile   *eventlog.File
	runDir    runDirectory // for the private sockets of this run's tunnels
	startedAt time.Time
	changes   wait.Broadcast // of anything that status shows
	events    *eventPublisher
	env       *environment
	secrets   atomic.Pointer[[]string]
	drivers   drivers

	dependencies *service.Dependencies
	checkSlots   chan struct{}
	clientSlots  *relay.SlotAllocator // of the services' clients
	tunnelCount  atomic.Uint64        // numbers the runs of tunnels

	election    *lockstate.Election
	predecessor *lockstate.Supervisor // the previous supervisor, if it was still alive when this one was elected; else nil
	inherited   *inheritance
	keeper      *handoffClient
	socket      *controlSocket

	active atomic.Pointer[activeConfig] // the config in use; replaced as a whole

	operationSlot    chan struct{}        // held by the operation that is running
	leasesChangedCh  chan struct{}        // the leases may have changed
	shutdownCh       chan shutdownRequest // requests to shut down, for awaitShutdown
	joinCh           chan api.JoinRequest // the request of the client that joined last
	successorStaleCh chan struct{}        // what the keeper holds for a successor is out of date
	hadWriteError    atomic.Bool          // the last write of the state file failed
	isTerminated     atomic.Bool          // ended by SIGTERM; the keeper starts a successor
	pendingCheckCh   chan chan struct{}   // requests to compare the files now; each channel sent is closed when that is done
	lastClientCh     chan struct{}        // the last client of a service disconnected
	reloadedCh       chan struct{}        // another config is active
	isClosing        atomic.Bool          // the ports are being closed or handed over: Join and operations return api.ErrEnding
	endedCh          chan struct{}        // closed when the ports have been closed or handed over
	// isSuperseded: another supervisor holds the election lock.
	isSuperseded atomic.Bool

	// startTask runs a function in a goroutine. stop cancels its context and waits for it.
	startTask    func(run func(context.Context)) (stop func())
	tasks        sync.WaitGroup // all goroutines but those of services
	leaseWatcher leaseWatcher

	mu         sync.Mutex // guards the fields below; never held while waiting
	conditions conditions
	user       project.UserConfig
	// successorEndedCh is nil until a successor has taken over, and is closed when that one ends.
	successorEndedCh <-chan struct{}
}

// Run is the lifecycle of a supervisor: win the election, load the config, open every port, report ready, run until the last
// lease is released, and stop everything. It returns after that, or after ctx has ended.
func Run(ctx context.Context, o Options) error {
	s, err := newSupervisor(o)
	if err != nil {
		o.OnStartResult(client.Readiness{Outcome: client.OutcomeFailed, Error: err.Error()})
		return err
	}
	defer func() { _ = s.logFile.Close() }()
	tasksCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	eventsCtx, endEvents := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { s.events.run(eventsCtx) })
	defer wg.Wait()
	defer endEvents()

	crashed, err := s.elect(ctx)
	if err != nil {
		o.OnStartResult(client.Readiness{Outcome: client.OutcomeFailed, Error: err.Error()})
		return err
	}
	if s.election == nil {
		o.OnStartResult(client.Readiness{Outcome: client.OutcomeBusy})
		return nil
	}
	s.sweepCrashed(crashed)
	s.startTask = taskStarter(context.WithoutCancel(ctx))
	// Drivers outlive tasksCtx: they are closed after the last tunnel.
	s.drivers = newDrivers(context.WithoutCancel(ctx), forwarder.Host{Dir: s.root(), Log: s.log})
	if err := s.prepare(ctx); err != nil {
		s.abortStart(ctx, err)
		cancel()
		s.stopTasks()
		return err
	}
	for _, part := range []func(context.Context){
		s.socket.serve, s.keeper.run, s.watchFiles, s.serveMetrics, s.watchNetwork, s.guardFiles, s.guardDirectory, s.applyJoins, s.keepSuccessorUpdated, s.answerPendingChecks, memtrim.Run,
		func(ctx context.Context) { watchSleep(ctx, sleepTime, s.onWake) },
		func(ctx context.Context) { s.store.retryWrites(ctx, s.endedCh) }, // after that the state file is a successor's
	} {
		s.tasks.Go(func() { part(tasksCtx) })
	}
	o.OnStartResult(client.Readiness{Outcome: client.OutcomeReady})

	s.awaitShutdown(ctx)
	s.drainIfReplaced(ctx)
	cancel()
	s.stopTasks()
	s.events.publish(eventlog.Event{Kind: eventlog.SupervisorEnded, Run: o.RunID}, "")
	s.removeAbandoned()
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
		options: o, dir: dir, source: configSource{o.Config, trust.Store{Dir: filepath.Join(data, "trust")}},
		startedAt:    time.Now(),
		dependencies: service.NewDependencies(), checkSlots: make(chan struct{}, maxConcurrentChecks),
		clientSlots:   relay.NewSlotAllocator(filelimit.Current(), filelimit.Reserve(nil, 0)),
		operationSlot: make(chan struct{}, 1), leasesChangedCh: make(chan struct{}, 1), shutdownCh: make(chan shutdownRequest),
		joinCh: make(chan api.JoinRequest, 1), successorStaleCh: make(chan struct{}, 1), pendingCheckCh: make(chan chan struct{}), lastClientCh: make(chan struct{}, 1), reloadedCh: make(chan struct{}, 1),
		endedCh: make(chan struct{}),
	}
	s.secrets.Store(new([]string))
	s.leaseWatcher.stopWatch = make(map[lockstate.Process]func())
	s.env = newEnvironment(os.Environ(), o.RunID)
	s.logFile = eventlog.NewFile(dir.LogPath("supervisor"), s.mask, eventlog.Limits{})
	s.logFile.RedirectStdio()
	s.log = slog.New(s.logFile.Handler(o.LogLevel)).With("run", o.RunID)
	dir.Warn = func(text string) { s.log.Warn(text) }
	s.store = newStore(dir, s.log, s.onStateChange)
	s.events = newEventPublisher(dir, s.log, s.mask)
	s.keeper = newHandoffClient(o.Exe, s.log, s.recordKeeper)
	s.socket = newControlSocket(s)
	return s, s.inheritFromKeeper()
}

// taskStarter returns a function that starts goroutines whose contexts derive from ctx. Its result stops one and waits for it.
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

// mask replaces the project's secrets in a text.
func (s *Supervisor) mask(text string) string {
	return project.Mask(text, *s.secrets.Load())
}

func (s *Supervisor) root() string { return s.source.root() }

// beginOperation waits until no other operation runs. The caller must call endOperation unless there is an error, which is
// api.ErrEnding or the context's.
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

// drainIfReplaced waits for this supervisor's connections if a successor has taken over the ports.
func (s *Supervisor) drainIfReplaced(ctx context.Context) {
	s.mu.Lock()
	successorEndedCh := s.successorEndedCh
	s.mu.Unlock()
	if successorEndedCh == nil {
		return
	}
	s.drainConnections(ctx, successorEndedCh)
	s.keeper.disconnect()
}

// stopTimeout bounds stopTasks. It is longer than any tunnel takes to open or to close: what still runs after it hangs in a file
// system call, which only the end of the process interrupts.
const stopTimeout = 40 * time.Second

// stopTasks stops everything that still runs after the ports were closed. It does not touch the state file.
func (s *Supervisor) stopTasks() {
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		s.active.Load().stopAll()
		s.leaseWatcher.close()
		s.tasks.Wait()
		if err := s.drivers.close(); err != nil {
			s.log.Error("cannot close the drivers", "error", err)
		}
	}()
	if !wait.IsClosedWithin(stopTimeout, finished) {
		s.log.Error("some tasks did not stop in time; the process exits anyway", "after", stopTimeout)
	}
	// Processes that left their process group carry the run id too.
	killed, err := process.KillOrphans(s.options.RunID)
	s.log.Info("ended", "orphans_killed", killed, "error", err)
}

// conditions are the problems with files and ports that status shows; empty strings where there is none.
type conditions struct {
	pendingReason   string // why a change of the files is not active
	refusedFiles    refusedFiles
	userConfigError string
	pollingReason   string
	metricsError    string
	directoryError  string
}

func (s *Supervisor) currentConditions() conditions {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conditions
}

// setCondition sets a field of s.conditions. It announces a change and reports whether there was one.
func setCondition[T comparable](s *Supervisor, field *T, value T) bool {
	s.mu.Lock()
	changed := *field != value
	*field = value
	s.mu.Unlock()
	if changed {
		s.changes.Announce()
	}
	return changed
}
