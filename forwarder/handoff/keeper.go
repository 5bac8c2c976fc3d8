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

// socketFD is the keeper's end of the link to the supervisor that started it.
const socketFD = 3

// A supervisor that dies is replaced after a delay that grows, but at once if it has lived for steady. After mostDeaths in a
// row its keeper gives up: the next prompt or command starts afresh.
const (
	steady     = 10 * time.Second
	mostDeaths = 6
	startTime  = 20 * time.Second
)

// revival is the delays after the second death in a row and those that follow.
var revival = wait.Backoff{First: 100 * time.Millisecond, Max: 2 * time.Second}

// Main is the keeper's whole life. It returns the exit code.
func Main() int {
	client.CloseInherited(socketFD)
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	debug.SetGCPercent(20) // it does next to nothing, and is to be next to nothing
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("keeper", os.Getpid())
	conn, err := connection(os.NewFile(socketFD, "the supervisor's socket"))
	if err != nil {
		log.Error("begin", "error", err)
		return 1
	}
	k := &keeper{log: log, held: make(map[string][]int), events: make(chan func())}
	k.current = &link{conn: conn}
	k.serve(k.current)
	ctx, cancel := context.WithCancel(context.Background())
	var trimming sync.WaitGroup
	trimming.Go(func() { memtrim.Run(ctx) })
	for !k.ended {
		(<-k.events)()
	}
	cancel()
	trimming.Wait()
	for _, files := range k.held {
		closeAll(files)
	}
	for _, l := range k.links {
		l.conn.Close()
		k.sweeping.Go(func() { k.sweep(l) })
	}
	k.sweeping.Wait()
	return 0
}

// keeper is owned by one goroutine: events are functions that it runs.
type keeper struct {
	log     *slog.Logger
	events  chan func()
	held    map[string][]int
	order   []string // of held, as first held
	note    Note
	current *link // of the supervisor that has it all; nil while there is none
	next    *link // of one that is being started
	links   []*link
	deaths  int // in a row
	began   time.Time
	ended   bool

	sweeping sync.WaitGroup
}

// link is one supervisor's. Those that were replaced keep theirs until they have finished or the keeper ends: the end
// of the link tells them that the project is over.
type link struct {
	conn       *net.UnixConn
	dead       bool
	supervisor lockstate.Process // as its note says; zero before that
	run        string
}

// serve passes the requests of a supervisor on, and its end. It ends with the process.
func (k *keeper) serve(l *link) {
	k.links = append(k.links, l)
	go func() {
		for {
			f, err := receive(l.conn)
			if err != nil {
				k.events <- func() { k.lost(l) }
				return
			}
			k.events <- func() { k.handle(l, f) }
		}
	}()
}

func (l *link) answer(to frame, err error) {
	f := frame{Seq: to.Seq, PID: os.Getpid()}
	if err != nil {
		f.Error = err.Error()
	}
	_ = l.conn.SetWriteDeadline(time.Now().Add(time.Second))
	_ = send(l.conn, f) // a supervisor that has died is seen by the end of its link
}

func (k *keeper) handle(l *link, f frame) {
	if l != k.current && l != k.next {
		closeAll(f.files)
		l.answer(f, errors.New("another supervisor has taken over"))
		return
	}
	switch f.Verb {
	case hold:
		k.drop(f.Name)
		k.held[f.Name] = f.files
		k.order = append(k.order, f.Name)
	case drop:
		k.drop(f.Name)
	case note:
		k.note = *f.Note
		l.supervisor, l.run = f.Note.Supervisor, f.Note.Run
	case replace:
		k.replace(l, f)
		return
	case end:
		for name := range k.held {
			k.drop(name)
		}
		k.ended = true
	}
	l.answer(f, nil)
}

func (k *keeper) drop(name string) {
	closeAll(k.held[name])
	delete(k.held, name)
	k.order = slices.DeleteFunc(k.order, func(n string) bool { return n == name })
}

// lost is the end of a link. That of the supervisor in charge means that it died: one that ends says so before.
func (k *keeper) lost(l *link) {
	l.conn.Close()
	l.dead = true
	if l != k.current {
		k.sweepDead()
		return
	}
	k.current = nil // its successor sweeps, which has the record of it
	if k.next != nil {
		return // its successor is on its way
	}
	if time.Since(k.began) > steady {
		k.deaths = 0
	}
	k.revive()
}

// endLimit is how long a supervisor may take to end after it has given everything up: more than it allows itself.
const endLimit = time.Minute

// sweep ends what is left of a supervisor's tunnels when it has ended. It does so itself; one that is killed while it ends, or
// while it finishes connections after it was replaced, is recorded nowhere, and no successor would.
func (k *keeper) sweep(l *link) {
	if l.run == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), endLimit)
	defer cancel()
	err := lockstate.WaitExit(ctx, l.supervisor)
	killed := 0
	if err == nil {
		killed, err = process.KillOrphans(l.run)
	}
	if err != nil || killed > 0 {
		k.log.Warn("the supervisor left processes behind", "pid", l.supervisor.PID, "run", l.run, "orphans_killed", killed, "error", err)
	}
}

// sweepDead sweeps after the supervisors that have ended.
func (k *keeper) sweepDead() {
	k.links = slices.DeleteFunc(k.links, func(l *link) bool {
		if l.dead {
			k.sweeping.Go(func() { k.sweep(l) })
		}
		return l.dead
	})
}

// revive starts the next supervisor after one that died, unless that has happened too often.
func (k *keeper) revive() {
	if k.note.Args == nil || k.deaths >= mostDeaths {
		k.log.Error("the supervisor died; it is not started again before the next prompt or command", "deaths", k.deaths)
		k.ended = true
		return
	}
	delay := revival.After(k.deaths)
	k.deaths++
	k.log.Warn("the supervisor died; another is started", "deaths", k.deaths, "after", delay)
	time.AfterFunc(delay, func() {
		k.events <- func() { k.start("", func(err error) { k.revived(err) }) }
	})
}

func (k *keeper) revived(err error) {
	if err == nil || k.ended {
		return
	}
	k.log.Error("start a supervisor", "error", err)
	if refused, ok := errors.AsType[*client.StartError](err); ok && refused.IsReported {
		k.ended = true // it has also said why where a prompt will find it
		return
	}
	k.revive()
}

// replace starts a successor of a supervisor that lives.
func (k *keeper) replace(l *link, f frame) {
	if k.next != nil {
		l.answer(f, errors.New("another supervisor is being started"))
		return
	}
	k.start(f.Exe, func(err error) {
		l.answer(f, err)
		if k.current == nil && !k.ended { // the one that was to be replaced has died meanwhile
			k.revive()
		}
	})
}

// start starts a supervisor, hands everything over, and tells done how that went.
func (k *keeper) start(exe string, done func(error)) {
	conn, theirs, err := pair()
	if err != nil {
		done(err)
		return
	}
	next := &link{conn: conn}
	k.next = next
	k.serve(next)
	frames := k.everything()
	began := time.Now()
	spawner := client.Spawner{
		Exe: program(exe, k.note.Exe), Args: k.note.Args, Env: k.note.Env, Log: k.note.Log, Extra: theirs, Reap: true,
	}
	go func() {
		handed := make(chan error, 1)
		go func() { handed <- hand(conn, frames) }()
		ctx, cancel := context.WithTimeout(context.Background(), startTime)
		defer cancel()
		word, err := spawner.Spawn(ctx)
		if err == nil && word.Outcome != client.OutcomeReady {
			err = fmt.Errorf("start a supervisor: it says %q", word.Outcome)
		}
		if err != nil {
			conn.Close()
		}
		if trouble := <-handed; err == nil {
			err = trouble
		}
		k.events <- func() { k.started(next, began, err, done) }
	}()
}

func (k *keeper) started(next *link, began time.Time, err error, done func(error)) {
	k.next = nil
	if err == nil && next.dead {
		err = errors.New("it died as soon as it was ready")
	}
	if err == nil {
		k.current, k.began = next, began
		k.sweepDead()
	} else {
		next.conn.Close()
	}
	done(err)
}

// everything is what a new supervisor is handed, on descriptors of its own: what is held may change meanwhile.
func (k *keeper) everything() []frame {
	var frames []frame
	for _, name := range k.order {
		f := frame{Verb: hold, Name: name}
		for _, fd := range k.held[name] {
			if copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err == nil {
				f.files = append(f.files, copied)
			}
		}
		frames = append(frames, f)
	}
	n := k.note
	return append(frames, frame{Verb: begin, Note: &n, Alive: k.current != nil, PID: os.Getpid()})
}

// hand writes everything to a new supervisor, which reads it before it does anything else.
func hand(conn *net.UnixConn, frames []frame) error {
	_ = conn.SetWriteDeadline(time.Now().Add(startTime))
	var failed error
	for _, f := range frames {
		if failed == nil {
			failed = send(conn, f)
		}
		closeAll(f.files)
	}
	return failed
}

// program is what to start: what was asked for, else what ran before, as long as that is there; an upgrade may have
// removed it from under us.
func program(asked, before string) string {
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
