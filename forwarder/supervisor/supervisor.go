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
	Config  string // path of the project's config file
	Version string // of this program
	Exe     string // this program: what a keeper starts again
	Run     string // this supervisor's run id: eight letters or digits, new for each
	Level   *slog.LevelVar
	// Say tells whoever started it how the start went; called exactly once.
	Say func(client.Readiness)
	// Kept takes over what a keeper holds; nil where a client started us.
	Kept func() (*handoff.Link, *handoff.Handed, error)
}

// checkLimit is how many services are checked at the same time.
const checkLimit = 8

// Supervisor is one project's. Its parts are safe for concurrent use where they say so.
type Supervisor struct {
	o       Options
	dir     *lockstate.Dir
	store   *store
	trust   trust.Store
	log     *slog.Logger
	logFile *eventlog.File
	folder  folder // of this run's private sockets
	started time.Time
	changes wait.Broadcast // of anything that status shows
	news    *news
	env     *environment
	secrets atomic.Pointer[[]string]
	drivers drivers

	dependencies *service.Dependencies
	checks       chan struct{}
	seats        *relay.SlotAllocator // of the services' clients
	tunnels      atomic.Uint64        // numbers the runs of tunnels

	election    *lockstate.Election
	predecessor *lockstate.Supervisor // one that still lived when this one was elected; nil: none did
	inherited   *inheritance
	keeping     *keeping
	socket      *controlSocket

	plan atomic.Pointer[plan] // what runs; replaced as a whole

	acts       chan struct{}      // held by the act that is under way
	wake       chan struct{}      // the leases may have changed
	retireCh   chan retireRequest // asks the loop of the leases for the end
	sessions   chan api.Session   // the newest environment of a newcomer
	remindCh   chan struct{}      // the keeper is to be told what is known
	wasBehind  atomic.Bool        // something could not be written to the state
	terminated atomic.Bool        // a SIGTERM ends this supervisor, and its keeper starts another
	pendingCh  chan chan struct{} // asks whether the files have changed; what is sent is closed when it is known
	lastClient chan struct{}      // a service has lost its last client
	reloaded   chan struct{}      // the config was taken over anew
	closing    atomic.Bool        // the ports are being given up or handed over: no newcomer is answered any more
	ended      chan struct{}      // closed when the ports have been given up or handed over
	// isSuperseded: another supervisor has the election.
	isSuperseded atomic.Bool

	// launch runs something until the function that it returns is called.
	launch  func(run func(context.Context)) (end func())
	running sync.WaitGroup // everything but services
	watches leaseWatches

	mu    sync.Mutex // guards the fields below, and is never held across anything that waits
	notes notes
	user  project.UserConfig
	// passed is not nil once a successor has taken over; closed when the project ends.
	passed <-chan struct{}
}

// Run is the lifecycle of a supervisor: be elected, take the config, open every port, say so, keep everything up until the last
// lease is gone, leave nothing behind. It returns when that is so, or when ctx ends.
func Run(ctx context.Context, o Options) error {
	s, err := open(o)
	if err != nil {
		o.Say(client.Readiness{Outcome: client.OutcomeFailed, Error: err.Error()})
		return err
	}
	defer func() { _ = s.logFile.Close() }()
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	newsCtx, endNews := context.WithCancel(context.WithoutCancel(ctx))
	var writing sync.WaitGroup
	writing.Go(func() { s.news.run(newsCtx) })
	defer writing.Wait()
	defer endNews()

	before, err := s.elect(ctx)
	if err != nil {
		o.Say(client.Readiness{Outcome: client.OutcomeFailed, Error: err.Error()})
		return err
	}
	if s.election == nil {
		o.Say(client.Readiness{Outcome: client.OutcomeBusy})
		return nil
	}
	s.sweep(before)
	s.launch = launcher(context.WithoutCancel(ctx))
	// They end when the last tunnel has been closed, which is after work has ended.
	s.drivers = newDrivers(context.WithoutCancel(ctx), forwarder.Host{Dir: s.root(), Log: s.log})
	if err := s.prepare(ctx); err != nil {
		s.abandon(err)
		cancel()
		s.finish()
		return err
	}
	for _, part := range []func(context.Context){
		s.socket.serve, s.keeping.run, s.watchFiles, s.serveMetrics, s.watchNetwork, s.guard, s.takeSessions, s.remindKeeper, s.lookForPending, memtrim.Run,
		func(ctx context.Context) { watchSleep(ctx, slept, s.woke) },
		func(ctx context.Context) { s.store.run(ctx, s.ended) }, // then the state is a successor's
	} {
		s.running.Go(func() { part(work) })
	}
	o.Say(client.Readiness{Outcome: client.OutcomeReady})

	s.keep(ctx)
	s.drain(ctx)
	cancel()
	s.finish()
	s.news.tell(eventlog.Event{Kind: eventlog.SupervisorEnded, Run: o.Run}, "")
	return errors.Join(s.socket.err(), s.folder.clean())
}

func open(o Options) (*Supervisor, error) {
	dir, err := lockstate.Open(o.Config)
	if _, unwritable := errors.AsType[*lockstate.WriteError](err); err != nil && !unwritable {
		return nil, err
	}
	data, err := lockstate.DataHome()
	if err != nil {
		return nil, err
	}
	s := &Supervisor{
		o: o, dir: dir, trust: trust.Store{Dir: filepath.Join(data, "trust")},
		started:      time.Now(),
		dependencies: service.NewDependencies(), checks: make(chan struct{}, checkLimit),
		seats: relay.NewSlotAllocator(filelimit.Current(), filelimit.Reserve(nil, 0)),
		acts:  make(chan struct{}, 1), wake: make(chan struct{}, 1), retireCh: make(chan retireRequest),
		sessions: make(chan api.Session, 1), remindCh: make(chan struct{}, 1), pendingCh: make(chan chan struct{}), lastClient: make(chan struct{}, 1), reloaded: make(chan struct{}, 1),
		ended: make(chan struct{}),
	}
	s.watches.all = make(map[lockstate.Process]func())
	s.env = newEnvironment(os.Environ(), o.Run)
	s.logFile = eventlog.NewFile(dir.Log("supervisor"), s.mask, eventlog.Limits{})
	s.logFile.RedirectStdio()
	s.log = slog.New(s.logFile.Handler(o.Level)).With("run", o.Run)
	dir.Warn = func(text string) { s.log.Warn(text) }
	s.store = newStore(dir, s.log, s.stateChanged)
	s.news = newNews(dir, s.log, s.mask)
	s.keeping = &keeping{
		exe: o.Exe, log: s.log, started: s.recordKeeper, missing: make(map[string]bool), missingCh: make(chan struct{}, 1),
	}
	s.socket = newControlSocket(s)
	return s, s.inherit()
}

// launcher gives a goroutine a lifecycle of its own within the one of ctx.
func launcher(ctx context.Context) func(func(context.Context)) func() {
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

func (s *Supervisor) root() string { return filepath.Dir(s.o.Config) }

// beginAct returns when no other act is under way. Whoever has begun one calls endAct. The error is api.ErrEnding, or the
// context's.
func (s *Supervisor) beginAct(ctx context.Context) error {
	select {
	case s.acts <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.closing.Load() {
		s.endAct()
		return api.ErrEnding
	}
	return nil
}

func (s *Supervisor) endAct() { <-s.acts }

// drain returns when every connection of a supervisor that was replaced has ended; at once if none was.
func (s *Supervisor) drain(ctx context.Context) {
	s.mu.Lock()
	passed := s.passed
	s.mu.Unlock()
	if passed == nil {
		return
	}
	s.finishConnections(ctx, passed)
	s.keeping.quit()
}

// finishLimit is how long the end may take: longer than any tunnel takes to open or to close. What is not over by then hangs in a
// file system, which nothing can interrupt but the end of the process.
const finishLimit = 40 * time.Second

// finish stops what still runs after the ports were given up. Nothing shared is touched any more.
func (s *Supervisor) finish() {
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		s.plan.Load().stopAll()
		s.watches.close()
		s.running.Wait()
		if err := s.drivers.close(); err != nil {
			s.log.Error("close the technologies", "error", err)
		}
	}()
	if !wait.IsClosedWithin(finishLimit, finished) {
		s.log.Error("something could not be ended; the process ends all the same", "after", finishLimit)
	}
	// What left its process group on purpose is still ours: nothing stays.
	killed, err := sweepOrphans(s.o.Run)
	s.log.Info("ended", "orphans_killed", killed, "error", err)
}

// notes are what there is to say of files and ports that are not as they should be.
type notes struct {
	pending     string // a change of the files that does not run
	refused     refusedFiles
	userTrouble string
	polling     string
	metrics     string
	directory   string
}

// note changes the notes, and has status show it.
func (s *Supervisor) note(change func(*notes)) {
	s.mu.Lock()
	before := s.notes
	change(&s.notes)
	changed := s.notes != before
	s.mu.Unlock()
	if changed {
		s.changes.Announce()
	}
}
