// Package handoff is the keeper: a process that holds copies of a supervisor's listeners and of its election lock. When the supervisor
// dies or is replaced by a newer release, connections wait in the kernel's queues while the keeper starts the next supervisor and
// hands everything over. When the keeper dies, the supervisor starts another.
package handoff

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/coredump"
	"github.com/localport-sh/localport/forwarder/memtrim"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
)

// supervisorFD is the keeper's socket to the supervisor that started it.
const supervisorFD = 3

// A supervisor that dies is restarted with backoff, but at once if it lived for stableTime. After maxDeaths in a row the keeper closes
// everything that it holds, so that the next prompt or command can start the project again, and retries less often.
const (
	stableTime   = 10 * time.Second
	maxDeaths    = 6
	startTimeout = 20 * time.Second
)

// restartBackoff is the delay after the second death in a row and the following ones, slowRestartBackoff that from maxDeaths on.
var (
	restartBackoff     = wait.Backoff{First: 100 * time.Millisecond, Max: 2 * time.Second}
	slowRestartBackoff = wait.Backoff{First: 10 * time.Second, Max: time.Minute}
)

// Main is the main function of a keeper process. It returns the exit code.
func Main() int {
	client.CloseInherited(supervisorFD)
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	debug.SetGCPercent(20) // memory matters more than the speed of a process that is almost always idle
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("keeper", os.Getpid())
	if err := coredump.Disable(); err != nil {
		log.Warn("a core dump of this process would hold secrets", "error", err)
	}
	conn, err := newUnixConn(os.NewFile(supervisorFD, "the supervisor's socket"))
	if err != nil {
		log.Error("cannot use the socket to the supervisor", "error", err)
		return 1
	}
	k := &keeper{log: log, held: make(map[string][]int), eventCh: make(chan func())}
	k.current = &supervisorLink{conn: conn}
	k.serveLink(k.current)
	ctx, cancel := context.WithCancel(context.Background())
	var trimmer sync.WaitGroup
	trimmer.Go(func() { memtrim.Run(ctx, 0) })
	for !k.isEnded {
		(<-k.eventCh)()
	}
	cancel()
	trimmer.Wait()
	for _, fds := range k.held {
		closeDescriptors(fds)
	}
	for _, l := range k.links {
		l.conn.Close()
		k.sweeps.Go(func() { k.sweepRun(l) })
	}
	k.sweeps.Wait()
	return 0
}

// keeper is owned by the goroutine of Main, which runs the functions of eventCh.
type keeper struct {
	log        *slog.Logger
	eventCh    chan func()
	held       map[string][]int
	heldOrder  []string // names of held, in the order in which they were first held
	successor  Successor
	current    *supervisorLink // of the supervisor in charge; nil while there is none
	next       *supervisorLink // of the supervisor that is being started; nil if none is
	links      []*supervisorLink
	deaths     int     // in a row
	unreported []Death // of which no supervisor knows yet
	startedAt  time.Time
	isEnded    bool

	sweeps sync.WaitGroup
}

// supervisorLink is the keeper's connection to one supervisor. Replaced supervisors keep theirs while they drain: when the keeper ends,
// the closed connection tells them to stop.
type supervisorLink struct {
	conn       *net.UnixConn
	isEnded    bool
	supervisor lockstate.Process // from its Successor request; zero before that
	runID      string

	observer atomic.Pointer[process.ExitObserver] // of supervisor; nil before its Successor request
}

// serveLink reads the requests of a supervisor in a goroutine, until the connection ends.
func (k *keeper) serveLink(l *supervisorLink) {
	k.links = append(k.links, l)
	go func() {
		for {
			f, err := readFrame(l.conn)
			if err != nil {
				reason := l.exitReason() // at once: it is soon forgotten
				k.eventCh <- func() { k.onLinkEnd(l, reason) }
				return
			}
			k.eventCh <- func() { k.handle(l, f) }
		}
	}()
}

// exitReason returns how the supervisor has ended; empty if it runs or this is not known.
func (l *supervisorLink) exitReason() string {
	observer := l.observer.Load()
	if observer == nil {
		return ""
	}
	defer observer.Close()
	return observer.Reason()
}

func (l *supervisorLink) answer(to frame, err error) {
	f := frame{Seq: to.Seq, PID: os.Getpid()}
	if err != nil {
		f.Error = err.Error()
	}
	if start, ok := errors.AsType[*client.StartError](err); ok {
		f.LoginLoss = start.LoginLoss
	}
	_ = l.conn.SetWriteDeadline(time.Now().Add(time.Second))
	_ = writeFrame(l.conn, f) // the death of the supervisor is noticed by serveLink
}

func (k *keeper) handle(l *supervisorLink, f frame) {
	if l != k.current && l != k.next {
		closeDescriptors(f.fds)
		l.answer(f, errors.New("another supervisor has taken over"))
		return
	}
	switch f.Verb {
	case verbHold:
		k.dropHeld(f.Name)
		k.held[f.Name] = f.fds
		k.heldOrder = append(k.heldOrder, f.Name)
	case verbDrop:
		k.dropHeld(f.Name)
	case verbSuccessor:
		k.successor = *f.Successor
		l.supervisor, l.runID = f.Successor.Supervisor, f.Successor.Run
		if l.observer.Load() == nil && l.supervisor.PID != 0 {
			l.observer.Store(process.ObserveExit(l.supervisor))
		}
	case verbReplace:
		k.startReplacement(l, f)
		return
	case verbEnd:
		k.dropAll()
		k.isEnded = true
	}
	l.answer(f, nil)
}

func (k *keeper) dropAll() {
	for name := range k.held {
		k.dropHeld(name)
	}
}

func (k *keeper) dropHeld(name string) {
	closeDescriptors(k.held[name])
	delete(k.held, name)
	k.heldOrder = slices.DeleteFunc(k.heldOrder, func(n string) bool { return n == name })
}

// onLinkEnd handles the end of a connection. The supervisor in charge has died then: one that stops sends verbEnd before.
func (k *keeper) onLinkEnd(l *supervisorLink, exitReason string) {
	l.conn.Close()
	l.isEnded = true
	k.recordDeath(l, exitReason)
	if l != k.current {
		k.sweepEndedLinks()
		return
	}
	k.current = nil // its successor sweeps, because the state records this one
	if k.next != nil {
		return // its successor is being started
	}
	if time.Since(k.startedAt) > stableTime {
		k.deaths = 0
	}
	k.restartSupervisor()
}

// maxUnreportedDeaths limits the deaths that are remembered for the next supervisor.
const maxUnreportedDeaths = 10

// recordDeath remembers how the supervisor in charge has died, or the one that was being started. One that has closed its connection and
// still runs has left the ports to the keeper, and reports its end itself, as does one that cannot start.
func (k *keeper) recordDeath(l *supervisorLink, exitReason string) {
	isKilled := strings.HasPrefix(exitReason, "killed")
	hasDied := l == k.next && isKilled || l == k.current && (exitReason != "" || !l.supervisor.IsAlive())
	if k.isEnded || !hasDied || l.runID == "" {
		return
	}
	k.log.Warn("the supervisor died", "pid", l.supervisor.PID, "run", l.runID, "reason", exitReason)
	k.unreported = append(k.unreported, Death{Supervisor: l.supervisor, Run: l.runID, At: time.Now(), Reason: exitReason})
	k.unreported = k.unreported[max(0, len(k.unreported)-maxUnreportedDeaths):]
}

// errNotStarted says that a supervisor had no project to supervise.
var errNotStarted = errors.New("another supervisor is running, or the project is stopped")

// endTimeout bounds the wait for a supervisor to exit. It is longer than the supervisor's own limit.
const endTimeout = time.Minute

// sweepRun kills what is left of a supervisor's tunnels after it has exited. Normally nothing is; but no successor sweeps after a
// supervisor that is killed while it stops or drains, because it is recorded nowhere.
func (k *keeper) sweepRun(l *supervisorLink) {
	if l.runID == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	err := lockstate.WaitExit(ctx, l.supervisor)
	killed := 0
	if err == nil {
		killed, err = process.KillOrphans(l.runID)
		// If the supervisor was killed, its run directory is left too.
		_ = lockstate.RemoveAbandonedRunDirs(func(run string) {
			more, _ := process.KillOrphans(run)
			killed += more
		})
	}
	if err != nil || killed > 0 {
		k.log.Warn("the supervisor left processes behind", "pid", l.supervisor.PID, "run", l.runID, "orphans_killed", killed, "error", err)
	}
}

// sweepEndedLinks sweeps after the supervisors whose connections have ended.
func (k *keeper) sweepEndedLinks() {
	k.links = slices.DeleteFunc(k.links, func(l *supervisorLink) bool {
		if l.isEnded {
			k.sweeps.Go(func() { k.sweepRun(l) })
		}
		return l.isEnded
	})
}

// restartSupervisor starts the next supervisor after a death.
func (k *keeper) restartSupervisor() {
	if k.successor.Args == nil {
		k.log.Error("the supervisor died before it told the keeper how to start another; the next prompt or command starts one")
		k.isEnded = true
		return
	}
	delay := restartBackoff.After(k.deaths)
	if k.deaths >= maxDeaths {
		delay = slowRestartBackoff.After(k.deaths - maxDeaths + 1)
		k.dropAll()
	}
	k.deaths++
	k.log.Warn("the supervisor died; starting another", "deaths", k.deaths, "after", delay)
	time.AfterFunc(delay, func() {
		k.eventCh <- func() { k.startSupervisor("", func(err error) { k.onRestarted(err) }) }
	})
}

func (k *keeper) onRestarted(err error) {
	if err == nil || k.isEnded {
		return
	}
	k.log.Error("cannot start a supervisor", "error", err)
	refused, _ := errors.AsType[*client.StartError](err)
	switch {
	case errors.Is(err, errNotStarted): // another process has started one, or the user has stopped the project
		k.isEnded = true
	case refused != nil && (refused.Outcome == client.OutcomeInvalid || refused.Outcome == client.OutcomeNotAllowed):
		k.isEnded = true // it has recorded the reason for the next prompt, which starts one when the config has changed
	default:
		k.restartSupervisor()
	}
}

// startReplacement starts the successor of a living supervisor, and answers the request with the result.
func (k *keeper) startReplacement(l *supervisorLink, f frame) {
	if k.next != nil {
		l.answer(f, errors.New("another supervisor is being started"))
		return
	}
	k.startSupervisor(f.Exe, func(err error) {
		l.answer(f, err)
		if k.current == nil && !k.isEnded { // the supervisor to be replaced has died meanwhile
			k.restartSupervisor()
		}
	})
}

// startSupervisor starts a supervisor and hands everything over. onDone gets the result in the keeper's goroutine.
func (k *keeper) startSupervisor(exe string, onDone func(error)) {
	conn, theirs, err := newSocketPair()
	if err != nil {
		onDone(err)
		return
	}
	next := &supervisorLink{conn: conn}
	k.next = next
	k.serveLink(next)
	frames := k.copyHeld()
	startedAt := time.Now()
	spawner := client.Spawner{
		Exe: selectProgram(exe, k.successor.Exe), Args: k.successor.Args, Env: k.successor.Env, Log: k.successor.Log, Extra: theirs, Reap: true,
	}
	go func() {
		sendErrCh := make(chan error, 1)
		go func() { sendErrCh <- sendFrames(conn, frames) }()
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		readiness, err := spawner.Spawn(ctx)
		if err == nil && readiness.Outcome != client.OutcomeReady {
			err = errNotStarted
		}
		if err != nil {
			conn.Close()
		}
		if sendErr := <-sendErrCh; err == nil {
			err = sendErr
		}
		k.eventCh <- func() { k.onStarted(next, startedAt, err, onDone) }
	}()
}

func (k *keeper) onStarted(next *supervisorLink, startedAt time.Time, err error, onDone func(error)) {
	k.next = nil
	if err == nil && next.isEnded {
		err = errors.New("the supervisor died as soon as it was ready")
	}
	if err == nil {
		k.current, k.startedAt, k.unreported = next, startedAt, nil
		k.sweepEndedLinks()
	} else {
		next.conn.Close()
	}
	onDone(err)
}

// copyHeld makes the frames for a new supervisor, with duplicated descriptors, because held may change meanwhile.
func (k *keeper) copyHeld() []frame {
	var frames []frame
	for _, name := range k.heldOrder {
		f := frame{Verb: verbHold, Name: name}
		for _, fd := range k.held[name] {
			if copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err == nil {
				f.fds = append(f.fds, copied)
			}
		}
		frames = append(frames, f)
	}
	successor := k.successor
	return append(frames, frame{Verb: verbBegin, Successor: &successor, IsPredecessorAlive: k.current != nil, Deaths: slices.Clone(k.unreported), PID: os.Getpid()})
}

// sendFrames writes frames to a new supervisor, which reads them before anything else, and closes their descriptors.
func sendFrames(conn *net.UnixConn, frames []frame) error {
	_ = conn.SetWriteDeadline(time.Now().Add(startTimeout))
	var failed error
	for _, f := range frames {
		if failed == nil {
			failed = writeFrame(conn, f)
		}
		closeDescriptors(f.fds)
	}
	return failed
}

// selectProgram returns the program to start: the requested one, else the previous one, or this one if an upgrade has removed that.
func selectProgram(requested, previous string) string {
	if requested != "" {
		return requested
	}
	if _, err := os.Stat(previous); err != nil {
		if self, err := os.Executable(); err == nil {
			return self
		}
	}
	return previous
}
