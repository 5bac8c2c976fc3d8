// Package supervisor keeps one project's forwards up for as long as anybody holds a lease on it. It is the background
// process that all shells of a project share.
package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/child"
	"github.com/localport-sh/localport/forwarder/control"
	"github.com/localport-sh/localport/forwarder/control/server"
	"github.com/localport-sh/localport/forwarder/journal"
	"github.com/localport-sh/localport/forwarder/keeper"
	"github.com/localport-sh/localport/forwarder/slim"
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
	Say func(control.Word)
	// Kept takes over what a keeper holds; nil where a client started us.
	Kept func() (*keeper.Link, *keeper.Handed, error)
}

// checksAtOnce is how many services are checked at the same time.
const checksAtOnce = 8

// Supervisor is one project's. Its parts are safe for concurrent use where they say so.
type Supervisor struct {
	o       Options
	dir     *lockstate.Dir
	trust   trust.Store
	log     *slog.Logger
	logFile *journal.File
	folder  folder // of this run's private sockets
	socket  *net.UnixListener
	started time.Time
	changes *changes
	board   *board
	checks  chan struct{}
	env     *environment
	secrets atomic.Pointer[[]string]

	election  *lockstate.Election
	inherited *inheritance
	keeping   *keeping
	drivers   drivers
	wake      chan struct{} // the leases may have changed
	calm      chan struct{} // a forward has lost its last client
	ended     chan struct{} // closed when the ports have been given up

	tunnels atomic.Uint64 // numbers the runs of tunnels
	work    context.Context
	watched sync.WaitGroup

	news     *news
	reloaded chan struct{} // the config was taken over anew

	mu       sync.Mutex // held across a whole act, reload or end: they never overlap
	closed   bool
	passed   <-chan struct{} // not nil: another supervisor has taken over; closed when that project ends
	project  *project.Project
	digest   string
	forwards map[string]*forward
	state    lockstate.State // as last seen
	watches  map[lockstate.Process]context.CancelFunc

	// What there is to say of files and ports that are not as they should be.
	dotEnvPath     string
	user           project.User
	userTrouble    string
	polling        string
	refused        refusedFiles
	toldPending    string
	metricsTrouble string
}

// Run is the whole life of a supervisor: be elected, take the config, bind every relay, say so, keep everything up
// until the last lease is gone, leave nothing behind. It returns when that is so, or when ctx ends.
func Run(ctx context.Context, o Options) error {
	s, err := open(o)
	if err != nil {
		o.Say(control.Word{Outcome: control.Broken, Error: err.Error()})
		return err
	}
	defer func() { _ = s.logFile.Close() }()
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	s.work = work
	// They end when the last tunnel has been closed, which is after work has ended.
	s.drivers = newDrivers(context.WithoutCancel(ctx), forwarder.Host{Dir: s.root(), Log: s.log})
	defer func() { _ = s.drivers.close() }()
	telling, told := context.WithCancel(context.WithoutCancel(ctx))
	var writing sync.WaitGroup
	writing.Go(func() { s.news.run(telling) })
	defer writing.Wait()
	defer told()

	before, err := s.elect(ctx)
	if err != nil {
		o.Say(control.Word{Outcome: control.Broken, Error: err.Error()})
		return err
	}
	if s.election == nil {
		o.Say(control.Word{Outcome: control.Busy})
		return nil
	}
	s.sweep(before)
	if err := s.prepare(ctx); err != nil {
		s.abandon(err)
		return err
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(work, s.socket, s, s.log) }()
	o.Say(control.Word{Outcome: control.Ready})
	s.watched.Go(func() { s.keeping.run(work) })
	s.watched.Go(func() { s.watchFiles(work) })
	s.watched.Go(func() { s.serveMetrics(work) })
	s.watched.Go(func() { watchSleep(work, slept, s.woke) })
	s.watched.Go(func() { s.watchNetwork(work) })
	slim.After(work)

	s.keep(ctx)
	if s.passed != nil {
		s.finishOpen(ctx)
		s.keeping.quit()
	}
	cancel()
	s.finish()
	s.news.tell(journal.Event{Kind: journal.Ended, Run: o.Run}, "")
	return errors.Join(<-served, s.folder.clean())
}

func open(o Options) (*Supervisor, error) {
	dir, err := lockstate.Open(o.Config)
	if err != nil {
		return nil, err
	}
	data, err := lockstate.DataHome()
	if err != nil {
		return nil, err
	}
	s := &Supervisor{
		o: o, dir: dir, trust: trust.Store{Dir: filepath.Join(data, "trust")},
		started: time.Now(), changes: newChanges(), board: newBoard(), checks: make(chan struct{}, checksAtOnce),
		wake: make(chan struct{}, 1), ended: make(chan struct{}),
		forwards: make(map[string]*forward),
		watches:  make(map[lockstate.Process]context.CancelFunc),
	}
	s.calm, s.reloaded = make(chan struct{}, 1), make(chan struct{}, 1)
	s.env = newEnvironment(os.Environ(), o.Run)
	s.logFile = journal.Open(dir.Log("supervisor"), s.mask, journal.Limits{})
	s.logFile.Carry()
	s.log = slog.New(s.logFile.Handler(o.Level)).With("run", o.Run)
	dir.Warn = func(text string) { s.log.Warn(text) }
	s.news = newNews(dir, s.log, s.mask)
	s.keeping = &keeping{exe: o.Exe, log: s.log, started: s.recordKeeper, kept: make(map[string]source)}
	return s, s.inherit()
}

// mask takes the project's secrets out of a text.
func (s *Supervisor) mask(text string) string {
	if secrets := s.secrets.Load(); secrets != nil {
		return project.Mask(text, *secrets)
	}
	return project.Mask(text, nil)
}

// elect tries for the project's election lock, and records this supervisor if it won. It returns the record of the
// one before, if that one did not end by itself.
func (s *Supervisor) elect(ctx context.Context) (before *lockstate.Supervisor, err error) {
	socket, err := s.dir.SocketPath()
	if err != nil {
		return nil, err
	}
	if election := s.inherited.take(keptElection); len(election) > 0 {
		return s.succeed(ctx, election[0], socket)
	}
	s.state, err = s.dir.Update(ctx, func(tx *lockstate.Tx) error {
		election, err := tx.Elect()
		if err != nil || election == nil {
			return err
		}
		s.election = election
		before = tx.Supervisor
		tx.Supervisor = s.record(socket)
		tx.Prune()
		return nil
	})
	return before, err
}

// sweep ends what a supervisor that was killed left behind.
func (s *Supervisor) sweep(before *lockstate.Supervisor) {
	if before == nil {
		return
	}
	killed, err := child.Sweep(before.Run)
	s.log.Warn("the supervisor before this one did not end by itself", "pid", before.PID, "run", before.Run,
		"orphans_killed", killed, "error", err)
	if dir, err := lockstate.RuntimeDir(); err == nil && before.Run != "" {
		_ = os.RemoveAll(filepath.Join(dir, filepath.Base(before.Run)))
	}
}

// prepare does all that must be done before clients are told ready.
func (s *Supervisor) prepare(ctx context.Context) error {
	s.folder.run = s.o.Run
	if err := s.folder.begin(); err != nil {
		return err
	}
	s.readUser()
	if err := journal.Tidy(s.dir.LogDir(), limits(s.user)); err != nil {
		s.log.Warn("remove old logs", "error", err)
	}
	files, parsed, err := s.loadInherited()
	if err != nil {
		return err
	}
	s.project, s.digest, s.dotEnvPath = parsed, files.Digest(), files.DotEnvPath
	if err := s.raise(ctx); err != nil {
		return err
	}
	if s.socket, err = s.listen(s.state.Supervisor.Socket); err != nil {
		return fmt.Errorf("listen for clients: %w", err)
	}
	if err := s.announce(ctx); err != nil {
		return err
	}
	s.socket.SetUnlinkOnClose(true)
	for _, name := range s.inherited.rest() {
		s.keeping.drop(name)
	}
	s.keeping.hold(keptElection, s.election.Files)
	s.keeping.hold(keptSocket, func() ([]*os.File, error) {
		file, err := s.socket.File()
		return []*os.File{file}, err
	})
	s.remind(files)
	s.news.tell(journal.Event{Kind: journal.Started, Run: s.o.Run, Reason: s.o.Version}, "")
	return nil
}

// raise makes and starts the forwards of a project that is just coming up.
func (s *Supervisor) raise(context.Context) error {
	for _, svc := range s.project.Services {
		f, err := s.forward(svc)
		if err != nil {
			return err
		}
		s.forwards[svc.Name] = f
		if s.wanted(svc) {
			f.start(s.work)
		}
	}
	return nil
}

// announce records the ports that were given out and makes every prompt look again.
func (s *Supervisor) announce(ctx context.Context) error {
	state, err := s.dir.Update(ctx, func(tx *lockstate.Tx) error {
		tx.Failure, tx.Ports = "", s.state.Ports
		tx.Down = false
		if s.inherited.alive { // from now on we are it
			tx.Supervisor = s.record(s.state.Supervisor.Socket)
		}
		tx.Bump()
		return nil
	})
	if err != nil {
		return err
	}
	s.state = state
	return nil
}

// abandon gives up a start: nothing stays, and prompts do not try again until something changes.
func (s *Supervisor) abandon(cause error) {
	s.log.Error("start failed", "error", cause)
	if s.inherited.alive {
		s.withdraw(cause)
		return
	}
	s.keeping.end()
	for _, f := range s.forwards {
		f.stop()
	}
	if s.socket != nil {
		_ = s.socket.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_, err := s.dir.Update(ctx, func(tx *lockstate.Tx) error {
		tx.Supervisor, tx.Failure = nil, s.mask(cause.Error())
		tx.Bump()
		return s.election.Resign()
	})
	if err != nil {
		s.log.Error("write the state", "error", err)
	}
	_ = s.folder.clean()
	s.o.Say(control.Word{Outcome: outcome(cause), Error: s.mask(cause.Error())})
}

func outcome(err error) control.Outcome {
	var invalid *project.Invalid
	switch {
	case errors.Is(err, errNotAllowed):
		return control.NotAllowed
	case errors.As(err, &invalid):
		return control.Invalid
	}
	return control.Broken
}

// finish stops what is still up after the ports were given up. Nothing shared is touched any more.
func (s *Supervisor) finish() {
	s.mu.Lock()
	s.stopAll(slices.Collect(maps.Keys(s.forwards)))
	for _, cancel := range s.watches {
		cancel()
	}
	s.mu.Unlock() // what watches may be waiting for it
	s.watched.Wait()
	// What left its process group on purpose is still ours: nothing stays.
	killed, err := child.Sweep(s.o.Run)
	s.log.Info("ended", "orphans_killed", killed, "error", err)
}

// forward makes the forward of a service; it is stopped.
func (s *Supervisor) forward(svc project.Service) (*forward, error) {
	return newForward(host{
		log: s.log, drivers: s.drivers, mask: s.mask, changes: s.changes, board: s.board, checks: s.checks,
		dir: s.root(), environ: s.env.list, tell: s.news.tell,
		begin: s.begin, bind: s.bind, bound: s.rebound, keeping: s.keeping, calm: s.calm,
	}, svc, journal.Open(s.dir.Log(svc.Name), s.mask, limits(s.user)))
}

// begin makes one tunnel's run and its directory.
func (s *Supervisor) begin(lines *journal.File) (forwarder.Run, func(), error) {
	n := s.tunnels.Add(1)
	id := fmt.Sprintf("%s.%d", s.o.Run, n)
	sockets, err := s.folder.add(fmt.Sprint(n))
	if err != nil {
		return forwarder.Run{}, nil, err
	}
	run := forwarder.Run{
		ID: id, Dir: s.root(), Sockets: sockets, Env: s.env.list(), Log: lines.Run(id),
	}
	return run, func() { _ = os.RemoveAll(sockets) }, nil
}

func (s *Supervisor) root() string { return filepath.Dir(s.o.Config) }

// rebound tells prompts that a port that was not ours now is: its variables are to be exported.
func (s *Supervisor) rebound() {
	ctx, cancel := context.WithTimeout(s.work, 2*time.Second)
	defer cancel()
	if _, err := s.dir.Update(ctx, func(tx *lockstate.Tx) error { tx.Bump(); return nil }); err != nil {
		s.log.Error("write the state", "error", err)
	}
}
