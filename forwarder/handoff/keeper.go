// Package handoff keeps copies of everything that a supervisor listens on, and its election lock, in a process of its
// own. When the supervisor dies, connections wait in the kernel's queue while the keeper starts the next one and hands
// it all over; so does a supervisor of a newer release that replaces an older one. When the keeper dies, its
// supervisor starts another.
package handoff

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/memtrim"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
)

// supervisorFD is the keeper's end of the link to the supervisor that started it.
const supervisorFD = 3

// A supervisor that dies is replaced after a delay that grows, but at once if it has lived for steady. After mostDeaths in a
// row its keeper gives up: the next prompt or command starts afresh.
const (
	stableTime   = 10 * time.Second
	maxDeaths    = 6
	startTimeout = 20 * time.Second
)

// restartBackoff is the delays after the second death in a row and those that follow.
var restartBackoff = wait.Backoff{First: 100 * time.Millisecond, Max: 2 * time.Second}

// Main is the keeper's whole life. It returns the exit code.
func Main() int {
	client.CloseInherited(supervisorFD)
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	debug.SetGCPercent(20) // it does next to nothing, and is to be next to nothing
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("keeper", os.Getpid())
	conn, err := newUnixConn(os.NewFile(supervisorFD, "the supervisor's socket"))
	if err != nil {
		log.Error("begin", "error", err)
		return 1
	}
	k := &keeper{log: log, held: make(map[string][]int), eventCh: make(chan func())}
	k.current = &supervisorLink{conn: conn}
	k.serveLink(k.current)
	ctx, cancel := context.WithCancel(context.Background())
	var trimming sync.WaitGroup
	trimming.Go(func() { memtrim.Run(ctx) })
	for !k.isEnded {
		(<-k.eventCh)()
	}
	cancel()
	trimming.Wait()
	for _, files := range k.held {
		closeDescriptors(files)
	}
	for _, l := range k.links {
		l.conn.Close()
		k.sweeps.Go(func() { k.sweepRun(l) })
	}
	k.sweeps.Wait()
	return 0
}

// keeper is owned by one goroutine: events are functions that it runs.
type keeper struct {
	log       *slog.Logger
	eventCh   chan func()
	held      map[string][]int
	heldOrder []string // of held, as first held
	successor Successor
	current   *supervisorLink // of the supervisor that has it all; nil while there is none
	next      *supervisorLink // of one that is being started
	links     []*supervisorLink
	deaths    int // in a row
	startedAt time.Time
	isEnded   bool

	sweeps sync.WaitGroup
}

// supervisorLink is one supervisor's. Those that were replaced keep theirs until they have finished or the keeper ends: the end
// of the link tells them that the project is over.
type supervisorLink struct {
	conn       *net.UnixConn
	isEnded    bool
	supervisor lockstate.Process // as its note says; zero before that
	runID      string
}

// serveLink passes the requests of a supervisor on, and its end. It ends with the process.
func (k *keeper) serveLink(l *supervisorLink) {
	k.links = append(k.links, l)
	go func() {
		for {
			f, err := readFrame(l.conn)
			if err != nil {
				k.eventCh <- func() { k.onLinkEnd(l) }
				return
			}
			k.eventCh <- func() { k.handle(l, f) }
		}
	}()
}

func (l *supervisorLink) answer(to frame, err error) {
	f := frame{Seq: to.Seq, PID: os.Getpid()}
	if err != nil {
		f.Error = err.Error()
	}
	_ = l.conn.SetWriteDeadline(time.Now().Add(time.Second))
	_ = writeFrame(l.conn, f) // a supervisor that has died is seen by the end of its link
}

func (k *keeper) handle(l *supervisorLink, f frame) {
	if l != k.current && l != k.next {
		closeDescriptors(f.files)
		l.answer(f, errors.New("another supervisor has taken over"))
		return
	}
	switch f.Verb {
	case verbHold:
		k.dropHeld(f.Name)
		k.held[f.Name] = f.files
		k.heldOrder = append(k.heldOrder, f.Name)
	case verbDrop:
		k.dropHeld(f.Name)
	case verbNote:
		k.successor = *f.Note
		l.supervisor, l.runID = f.Note.Supervisor, f.Note.Run
	case verbReplace:
		k.startReplacement(l, f)
		return
	case verbEnd:
		for name := range k.held {
			k.dropHeld(name)
		}
		k.isEnded = true
	}
	l.answer(f, nil)
}

func (k *keeper) dropHeld(name string) {
	closeDescriptors(k.held[name])
	delete(k.held, name)
	k.heldOrder = slices.DeleteFunc(k.heldOrder, func(n string) bool { return n == name })
}

// onLinkEnd is the end of a link. That of the supervisor in charge means that it died: one that ends says so before.
func (k *keeper) onLinkEnd(l *supervisorLink) {
	l.conn.Close()
	l.isEnded = true
	if l != k.current {
		k.sweepEndedLinks()
		return
	}
	k.current = nil // its successor sweeps, which has the record of it
	if k.next != nil {
		return // its successor is on its way
	}
	if time.Since(k.startedAt) > stableTime {
		k.deaths = 0
	}
	k.restartSupervisor()
}

// endTimeout is how long a supervisor may take to end after it has given everything up: more than it allows itself.
const endTimeout = time.Minute

// sweepRun ends what is left of a supervisor's tunnels when it has ended. It does so itself; one that is killed while it ends, or
// while it finishes connections after it was replaced, is recorded nowhere, and no successor would.
func (k *keeper) sweepRun(l *supervisorLink) {
	if l.runID == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	err := lockstate.WaitExit(ctx, l.supervisor)
	killed := 0
	if err == nil {
		killed, err = process.Sweep(l.runID)
	}
	if err != nil || killed > 0 {
		k.log.Warn("the supervisor left processes behind", "pid", l.supervisor.PID, "run", l.runID, "orphans_killed", killed, "error", err)
	}
}

// sweepEndedLinks sweeps after the supervisors that have ended.
func (k *keeper) sweepEndedLinks() {
	k.links = slices.DeleteFunc(k.links, func(l *supervisorLink) bool {
		if l.isEnded {
			k.sweeps.Go(func() { k.sweepRun(l) })
		}
		return l.isEnded
	})
}

// restartSupervisor starts the next supervisor after one that died, unless that has happened too often.
func (k *keeper) restartSupervisor() {
	if k.successor.Args == nil || k.deaths >= maxDeaths {
		k.log.Error("the supervisor died; it is not started again before the next prompt or command", "deaths", k.deaths)
		k.isEnded = true
		return
	}
	delay := restartBackoff.After(k.deaths)
	k.deaths++
	k.log.Warn("the supervisor died; another is started", "deaths", k.deaths, "after", delay)
	time.AfterFunc(delay, func() {
		k.eventCh <- func() { k.startSupervisor("", func(err error) { k.onRestarted(err) }) }
	})
}

func (k *keeper) onRestarted(err error) {
	if err == nil || k.isEnded {
		return
	}
	k.log.Error("start a supervisor", "error", err)
	if refused, ok := errors.AsType[*client.StartError](err); ok && refused.Said {
		k.isEnded = true // it has also said why where a prompt will find it
		return
	}
	k.restartSupervisor()
}

// startReplacement starts a successor of a supervisor that lives.
func (k *keeper) startReplacement(l *supervisorLink, f frame) {
	if k.next != nil {
		l.answer(f, errors.New("another supervisor is being started"))
		return
	}
	k.startSupervisor(f.Exe, func(err error) {
		l.answer(f, err)
		if k.current == nil && !k.isEnded { // the one that was to be replaced has died meanwhile
			k.restartSupervisor()
		}
	})
}

// startSupervisor starts a supervisor, hands everything over, and tells done how that went.
func (k *keeper) startSupervisor(exe string, done func(error)) {
	conn, theirs, err := newSocketPair()
	if err != nil {
		done(err)
		return
	}
	next := &supervisorLink{conn: conn}
	k.next = next
	k.serveLink(next)
	frames := k.copyHeld()
	began := time.Now()
	spawner := client.Spawner{
		Exe: selectProgram(exe, k.successor.Exe), Args: k.successor.Args, Env: k.successor.Env, Log: k.successor.Log, Extra: theirs, Reap: true,
	}
	go func() {
		handed := make(chan error, 1)
		go func() { handed <- sendFrames(conn, frames) }()
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		word, err := spawner.Spawn(ctx)
		if err == nil && word.Outcome != client.Ready {
			err = fmt.Errorf("start a supervisor: it says %q", word.Outcome)
		}
		if err != nil {
			conn.Close()
		}
		if trouble := <-handed; err == nil {
			err = trouble
		}
		k.eventCh <- func() { k.onStarted(next, began, err, done) }
	}()
}

func (k *keeper) onStarted(next *supervisorLink, began time.Time, err error, done func(error)) {
	k.next = nil
	if err == nil && next.isEnded {
		err = errors.New("it died as soon as it was ready")
	}
	if err == nil {
		k.current, k.startedAt = next, began
		k.sweepEndedLinks()
	} else {
		next.conn.Close()
	}
	done(err)
}

// copyHeld is what a new supervisor is handed, on descriptors of its own: what is held may change meanwhile.
func (k *keeper) copyHeld() []frame {
	var frames []frame
	for _, name := range k.heldOrder {
		f := frame{Verb: verbHold, Name: name}
		for _, fd := range k.held[name] {
			if copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err == nil {
				f.files = append(f.files, copied)
			}
		}
		frames = append(frames, f)
	}
	n := k.successor
	return append(frames, frame{Verb: verbBegin, Note: &n, Alive: k.current != nil, PID: os.Getpid()})
}

// sendFrames writes everything to a new supervisor, which reads it before it does anything else.
func sendFrames(conn *net.UnixConn, frames []frame) error {
	_ = conn.SetWriteDeadline(time.Now().Add(startTimeout))
	var failed error
	for _, f := range frames {
		if failed == nil {
			failed = writeFrame(conn, f)
		}
		closeDescriptors(f.files)
	}
	return failed
}

// selectProgram is what to start: what was asked for, else what ran before, as long as that is there; an upgrade may have
// removed it from under us.
func selectProgram(asked, before string) string {
	if asked != "" {
		return asked
	}
	if _, err := os.Stat(before); err != nil {
		if self, err := os.Executable(); err == nil {
			return self
		}
	}
	return before
}
