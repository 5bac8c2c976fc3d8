package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/forwarder/filelimit"
	"github.com/localport-sh/localport/forwarder/memtrim"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/forwarder/relay"
	"github.com/localport-sh/localport/forwarder/service"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project/trust"
)

// trimInterval is how often the supervisor checks whether memory can be returned to the system, for example after many clients.
const trimInterval = time.Minute

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

	s.startTask = taskStarter(context.WithoutCancel(ctx))
	s.holdInheritedLeases() // before the leases are read
	defer s.closeForeignLeases()
	crashed, err := s.elect(ctx)
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("the supervisor was ended by a signal while it was starting: %w", err)
		}
		o.OnStartResult(client.Readiness{Outcome: client.OutcomeFailed, Error: err.Error()})
		return err
	}
	if s.election == nil {
		o.OnStartResult(client.Readiness{Outcome: client.OutcomeBusy})
		return nil
	}
	s.sweepCrashed(crashed)
	// Drivers outlive tasksCtx: they are closed after the last tunnel.
	s.drivers = newDrivers(context.WithoutCancel(ctx), forwarder.Host{Dir: s.root(), Log: s.log})
	// A SIGTERM during the start is handled by awaitShutdown: only a supervisor that has started can hand over, or release, its ports.
	if err := s.prepare(context.WithoutCancel(ctx), crashed); err != nil {
		s.abortStart(ctx, err)
		cancel()
		s.stopTasks()
		return err
	}
	for _, part := range []func(context.Context){
		s.socket.serve, s.keeper.run, s.watchFiles, s.serveMetrics, s.watchNetwork, s.followBridges, s.guardOwnFiles, s.guardDirectory, s.applyJoins, s.keepSuccessorUpdated, s.keepServicesRecorded, s.answerPendingChecks, s.watchMachineSleep,
		func(ctx context.Context) { memtrim.Run(ctx, trimInterval) },
		func(ctx context.Context) { s.store.retryWrites(ctx, s.endedCh) }, // after that the state file is a successor's
	} {
		s.tasks.Go(func() { part(tasksCtx) })
	}
	o.OnStartResult(client.Readiness{Outcome: client.OutcomeReady})
	s.tasks.Go(s.removeAbandoned) // may wait for processes of other projects

	s.awaitShutdown(ctx)
	s.drain(ctx)
	cancel()
	s.stopTasks()
	s.events.publish(eventlog.Event{Kind: eventlog.SupervisorEnded, Run: o.RunID, Reason: s.endSignal}, "")
	s.removeAbandoned()
	s.pruneStateDirs()
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
		options: o, dir: dir, runDir: newRunDirectory(o.RunID), source: configSource{o.Config, trust.Store{Dir: filepath.Join(data, "trust")}},
		startedAt: time.Now(), builtAt: client.BuildTime(o.Exe),
		dependencies: service.NewDependencies(), checkSlots: make(chan struct{}, maxConcurrentChecks),
		clientSlots:   relay.NewSlotAllocator(filelimit.Current(), filelimit.Reserve(nil, 0)),
		operationSlot: make(chan struct{}, 1), comparisonSlots: make(chan struct{}, maxComparisons), leasesChangedCh: make(chan struct{}, 1), shutdownCh: make(chan shutdownRequest),
		joinCh: make(chan api.JoinRequest, 1), successorSlot: make(chan struct{}, 1), successorStaleCh: make(chan struct{}, 1), pendingCheckCh: make(chan chan struct{}), pendingChangedCh: make(chan struct{}, 1), projectEventCh: make(chan struct{}, 1), lastClientCh: make(chan struct{}, 1), reloadedCh: make(chan struct{}, 1), bridgesChangedCh: make(chan struct{}, 1),
		endedCh: make(chan struct{}),
	}
	s.self, s.bindPort, s.handOver = lockstate.Self(), s.openPort, s.handOverToElected
	s.secrets.Store(new([]string))
	s.retired = newRetiredServices()
	s.leaseWatcher.stopWatch = make(map[lockstate.Process]func())
	s.env = newEnvironment(os.Environ(), o.RunID)
	s.logFile = eventlog.NewFile(dir.LogPath("supervisor"), s.mask, eventlog.Limits{})
	s.logFile.RedirectStdio()
	s.log = slog.New(s.logFile.Handler(o.LogLevel)).With("run", o.RunID)
	dir.Warn = func(text string) { s.log.Warn(text) }
	s.store = newStore(dir, s.log, s.onStateChange)
	s.events = newEventPublisher(s.store, s.log, s.mask)
	s.keeper = newHandoffClient(o.Exe, s.log, s.recordKeeper)
	s.socket = newControlSocket(s, s.log)
	return s, s.inheritFromKeeper()
}

// awaitShutdown is the only place that decides to shut down. It returns when the ports have been closed or handed over: linger after
// the last lease, on request, or when ctx ends. Whatever fails is retried.
func (s *Supervisor) awaitShutdown(ctx context.Context) {
	linger, recheck := time.NewTimer(0), wait.NewLongTimer(0)
	linger.Stop()
	defer linger.Stop()
	defer recheck.Stop()
	wait.Notify(s.leasesChangedCh)
	last, isLingering, tries := leaseCount{own: 1}, false, 0
	var downAt time.Time // when the project was first seen to be down; zero: it is not
	for {
		select {
		case <-s.endedCh:
			return
		case r := <-s.shutdownCh: // before the leases are read, which may take a second
			r.resultCh <- s.tryShutDown(ctx, r.reason, 0)
			continue
		default:
		}
		select {
		case <-s.endedCh:
			return
		case <-ctx.Done():
			s.endSignal = describeSignal(ctx)
			s.onTerminate(context.WithoutCancel(ctx))
			return
		case r := <-s.shutdownCh:
			r.resultCh <- s.tryShutDown(ctx, r.reason, 0)
			continue
		case <-recheck.C:
			tryReceive(s.leasesChangedCh) // they are counted now
		case <-s.leasesChangedCh:
		case <-linger.C:
			hasChanged, isDue := tryReceive(s.leasesChangedCh), tryReceive(recheck.C)
			if hasChanged || isDue {
				linger.Reset(0) // after they have been counted
				break
			}
			isLingering = false
			if last.borrowed > 0 {
				s.reduce(ctx)
				break
			}
			if s.tryShutDown(ctx, shutdownUnused, tries) {
				return
			}
			tries++
		}
		s.reconsiderReplacement(ctx)
		count, err := s.countLeases(ctx)
		recheck.Reset(wait.AlignDelay(leaseInterval))
		if err != nil {
			recheck.Reset(leaseRetry)
		}
		switch {
		case !count.isDown:
			downAt = time.Time{}
		case downAt.IsZero():
			downAt = time.Now()
			recheck.Reset(stopGracePeriod)
		case time.Since(downAt) >= stopGracePeriod:
			if s.tryShutDown(ctx, shutdownRequested, 0) {
				return
			}
			downAt = time.Time{} // it is tried again
		}
		if count.own > 0 {
			_ = s.restore(ctx) // Join has done it, unless it failed; the next look tries again
		}
		switch {
		case count.own > 0 || count.borrowed > 0 && len(s.unneededServices()) == 0:
			linger.Stop()
			isLingering, tries = false, 0
		case isLingering:
		case tries > 0:
			isLingering = true
			linger.Reset(leaseRetry)
		default:
			isLingering = true
			delay := s.active.Load().project.Linger
			if count.unconfirmed > 0 {
				delay = max(delay, leaseConfirmTime)
			}
			linger.Reset(delay)
		}
		last = count
	}
}

// stopGracePeriod is how long the project may be recorded as down before this supervisor ends by itself: a "stop" records that first, and asks
// this supervisor within client.CommandTimeout, unless it is killed.
const stopGracePeriod = 15 * time.Second

// tryReceive receives from a channel if that is possible at once, and reports whether it was.
func tryReceive[T any](ch <-chan T) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
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
		s.closeForeignLeases()
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
