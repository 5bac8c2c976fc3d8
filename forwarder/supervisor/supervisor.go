// Package supervisor keeps one project's services reachable for as long as the project has leases. It is the background
// process that all shells of a project share.
//
// Reads are answered from snapshots and wait for nothing. Operations that change the project run one at a time, each in two
// halves: the first opens and closes ports and is waited for, the second ends tunnels in the background.
package supervisor

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/forwarder/filelimit"
	"github.com/localport-sh/localport/forwarder/handoff"
	"github.com/localport-sh/localport/forwarder/promptapi"
	"github.com/localport-sh/localport/forwarder/relay"
	"github.com/localport-sh/localport/forwarder/service"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/environ"
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
	// AcceptPrompt is what server.Backend calls; nil: no prompts are evaluated here.
	AcceptPrompt func(r promptapi.Request) (limit time.Duration, evaluate func(context.Context) (promptapi.Response, bool))
}

// AcceptPrompt implements server.Backend.
func (s *Supervisor) AcceptPrompt(r promptapi.Request) (limit time.Duration, evaluate func(context.Context) (promptapi.Response, bool)) {
	if s.options.AcceptPrompt == nil {
		return 0, nil
	}
	return s.options.AcceptPrompt(r)
}

// maxConcurrentChecks is the limit on health checks that run at the same time.
const maxConcurrentChecks = 8

// Supervisor runs the services of one project. Its exported methods are safe for concurrent use.
type Supervisor struct {
	options      Options
	dir          *lockstate.Dir
	store        *store
	source       configSource
	log          *slog.Logger
	logFile      *eventlog.File
	runDir       *runDirectory // for the private sockets of this run's tunnels
	startedAt    time.Time
	builtAt      time.Time      // see client.BuildTime
	changes      wait.Broadcast // of anything that status shows
	stateChanges wait.Broadcast // of a service's state; each is one of changes too
	events       *eventPublisher
	env          *environment
	secrets      atomic.Pointer[[]string]
	drivers      drivers

	dependencies *service.Dependencies
	checkSlots   chan struct{}
	clientSlots  *relay.SlotAllocator // of the services' clients
	tunnelCount  atomic.Uint64        // numbers the runs of tunnels

	election     *lockstate.Election
	predecessor  *lockstate.Supervisor // the previous supervisor, if it was still alive when this one was elected; else nil
	inherited    *inheritance
	loans        loans        // of services that other projects share
	pendingPorts pendingPorts // of services here that another project may share soon
	siblings     siblingListeners
	retired      *retiredServices
	// isReduced is set while only the services that are lent run, because nobody else uses the project. It is changed within an operation.
	isReduced atomic.Bool
	// predecessorDeath is how the previous supervisor died; nil if it did not. It is set before other goroutines run.
	predecessorDeath *api.SupervisorDeath
	keeper           *handoffClient
	socket           *controlSocket

	active atomic.Pointer[activeConfig] // the config in use; replaced as a whole

	// What tests replace.
	self     lockstate.Process // this process
	bindPort func(ctx context.Context, svc project.Service, o relay.Options) (service.Port, error)
	handOver func(ctx context.Context) error // hands the listeners to the elected supervisor

	operationSlot    chan struct{}        // held by the operation that is running
	comparisonSlots  chan struct{}        // held by each CompareEnvironment that is running
	leasesChangedCh  chan struct{}        // the leases may have changed
	shutdownCh       chan shutdownRequest // requests to shut down, for awaitShutdown
	joinCh           chan api.JoinRequest // the request of the client that joined last
	successorSlot    chan struct{}        // held while the keeper is told how to start a successor
	successorStaleCh chan struct{}        // what the keeper holds for a successor is out of date
	hadWriteError    atomic.Bool          // the last write of the state file failed
	isTerminated     atomic.Bool          // ended by SIGTERM; the keeper starts a successor
	logins           loginRecord
	isUpgrading      atomic.Bool // a replacement is tried in the background
	isOpening        atomic.Bool // applyConfig or restore is opening ports of services that are already part of the config
	// replacementShell are the shell's variables for the supervisor that is being started to replace this one; nil: those that this one has.
	replacementShell atomic.Pointer[environ.Env]
	publishedPending publishedPending // watchFiles' own
	// loginLoss is why the version that the state records as refused has not taken over; nil if that was not because of a login.
	loginLoss        atomic.Pointer[api.LoginLossError]
	pendingCheckCh   chan chan struct{} // requests to compare the files now; each channel sent is closed when that is done
	pendingChangedCh chan struct{}      // a comparison for status had another result than the one before
	projectEventCh   chan struct{}      // something has happened on the paths of the project's files
	lastClientCh     chan struct{}      // the last client of a service disconnected
	reloadedCh       chan struct{}      // another config is active
	bridgesChangedCh chan struct{}      // the bridges, or which services want one, may have changed
	isClosing        atomic.Bool        // the ports are being closed or handed over: Join and operations return api.ErrEnding
	endSignal        string             // the signal that ended the supervisor; written by awaitShutdown alone
	endedCh          chan struct{}      // closed when the ports have been closed or handed over
	// isSuperseded: another supervisor holds the election lock.
	isSuperseded atomic.Bool

	// Set while operationSlot is held, and by drain once endedCh is closed.
	keepUntil     time.Time          // until when established connections stay after the ports were closed; zero: they end
	recordedDrain lockstate.Draining // the entry of this supervisor in the state

	// startTask runs a function in a goroutine. stop cancels its context and waits for it.
	startTask    func(run func(context.Context)) (stop func())
	tasks        sync.WaitGroup // all goroutines but those of services
	leaseWatcher leaseWatcher
	foreign      foreignLeases

	mu         sync.Mutex // guards the fields below; never held while waiting
	conditions conditions
	user       project.UserConfig
	// successorEndedCh is nil until a successor has taken over, and is closed when that one ends.
	successorEndedCh <-chan struct{}
}

// mask replaces the project's secrets in a text.
func (s *Supervisor) mask(text string) string {
	return project.Mask(text, *s.secrets.Load())
}

func (s *Supervisor) root() string { return s.source.root() }

// beginOperation waits until no other operation runs. The caller must call endOperation unless there is an error, which is
// api.ErrEnding or the context's.
func (s *Supervisor) beginOperation(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
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

// saveState queues a change and tries to write it within lockTimeout. It does nothing once the state file belongs to a successor
// or to another elected supervisor. The write is tried also if ctx has ended: what it records has happened.
func (s *Supervisor) saveState(ctx context.Context, change change, bump bool) {
	if s.isClosing.Load() || s.isSuperseded.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockTimeout)
	defer cancel()
	s.store.addAndWrite(ctx, change, bump)
}

// userConfig is the user's config as last read.
func (s *Supervisor) userConfig() project.UserConfig {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.user
}

// resizeClientSlots sets the limit on clients to what the file limit leaves beside the needs of the config, the leases and the loans.
func (s *Supervisor) resizeClientSlots(config *activeConfig) {
	s.clientSlots.Resize(filelimit.Current(), filelimit.Reserve(config.project.Services, len(s.store.state().Leases)+len(s.loans.list())))
}
