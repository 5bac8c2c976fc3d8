package supervisor

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/localport-sh/localport/forwarder/handoff"
	"github.com/localport-sh/localport/forwarder/wait"
)

// The names under which the keeper holds what is not a service's.
const (
	keptElection = "election"
	keptSocket   = "control"
)

func keptService(name string) string { return "service " + name }

// source gives copies of what a name stands for, for the receiver to close.
type source func() ([]*os.File, error)

// kept is something that the keeper holds a copy of. Two may have the same name for a moment, as when a service's address
// changes while the old one is just being bound: the keeper has the one that came last, and the other one once that is dropped.
type kept struct {
	name   string
	source source
}

// keeping has a keeper hold what this supervisor listens on, and sees to it that there is one. It is safe for
// concurrent use.
type keeping struct {
	exe     string
	log     *slog.Logger
	started func(pid int) // told of each keeper

	missingCh chan struct{} // something is missing

	current atomic.Int64    // the keeper's pid; 0: there is none
	mu      sync.Mutex      // one conversation with the keeper at a time: a frozen one is killed after 2 s
	link    *handoff.Link   // nil while there is none
	kept    []*kept         // in the order of their coming
	missing map[string]bool // by name, of what is kept: what the keeper could not be given, as while there is no free descriptor
	note    handoff.Note
	lostAt  time.Time // when the keeper before this one was seen to have died
	closed  bool
}

// run keeps a keeper running until ctx ends or the keeping does.
func (k *keeping) run(ctx context.Context) {
	const first, most = 100 * time.Millisecond, 30 * time.Second
	for pause := (wait.Backoff{First: first, Max: most}); ; {
		began := time.Now()
		if link := k.start(); link != nil {
			k.started(link.PID())
			if !k.attend(ctx, link) {
				return
			}
			if k.lost() {
				return
			}
			k.log.Warn("the keeper died; another is started")
		}
		if time.Since(began) > most {
			pause.Reset()
		}
		if !wait.Sleep(ctx, pause.Next()) {
			return
		}
	}
}

// giveInterval is how often it is tried again to give a keeper what it could not be given.
const giveInterval = time.Second

// attend gives a keeper what it could not be given, until it ends; false if ctx ends before.
func (k *keeping) attend(ctx context.Context, link *handoff.Link) bool {
	var again <-chan time.Time // nil while nothing is missing: a supervisor at rest is not woken
	for {
		select {
		case <-link.Done():
			return true
		case <-ctx.Done():
			return false
		case <-k.missingCh:
			if again == nil {
				again = time.After(giveInterval)
			}
		case <-again:
			again = nil
			k.giveMissing()
		}
	}
}

// giveMissing tries again to give the keeper what it could not be given.
func (k *keeping) giveMissing() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed || k.link == nil {
		return
	}
	for _, name := range slices.Collect(maps.Keys(k.missing)) {
		if last := k.last(name); last != nil {
			k.give(last)
		}
	}
}

// start returns the keeper that there is, or starts one and gives it everything. Nil if that cannot be done now.
func (k *keeping) start() *handoff.Link {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.link != nil || k.closed {
		return k.link
	}
	link, err := handoff.Start(k.exe)
	if err != nil {
		k.log.Error("no keeper", "error", err)
		return nil
	}
	k.setLink(link)
	k.giveAll()
	return link
}

func (k *keeping) giveAll() {
	for _, one := range k.kept {
		if one == k.last(one.name) {
			k.give(one)
		}
	}
	k.tell()
}

// pid is the keeper's, 0 if there is none. It never waits.
func (k *keeping) pid() int { return int(k.current.Load()) }

// setLink changes the link. k.mu is held.
func (k *keeping) setLink(link *handoff.Link) {
	k.link = link
	k.current.Store(0)
	if link != nil {
		k.current.Store(int64(link.PID()))
	}
}

// lost takes note of a keeper's end; true if it was ours to cause.
func (k *keeping) lost() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.setLink(nil)
	k.lostAt = time.Now()
	return k.closed
}

// hold has the keeper hold what source gives, under a name, until it is dropped.
func (k *keeping) hold(name string, source source) *kept {
	k.mu.Lock()
	defer k.mu.Unlock()
	one := &kept{name, source}
	if k.closed {
		return one
	}
	k.kept = append(k.kept, one)
	if k.link != nil {
		k.give(one)
	}
	return one
}

// holdInstead has the keeper hold what source gives under a name, instead of all that it had under it.
func (k *keeping) holdInstead(name string, source source) {
	k.mu.Lock()
	k.kept = slices.DeleteFunc(k.kept, func(one *kept) bool { return one.name == name })
	k.mu.Unlock()
	k.hold(name, source)
}

// last is what the keeper is to have under a name; nil for nothing.
func (k *keeping) last(name string) *kept {
	for _, one := range slices.Backward(k.kept) {
		if one.name == name {
			return one
		}
	}
	return nil
}

func (k *keeping) give(one *kept) {
	name := one.name
	files, err := one.source()
	if err == nil {
		err = k.link.Hold(name, files)
		for _, file := range files {
			file.Close()
		}
	}
	if err != nil {
		wait.Notify(k.missingCh)
	}
	switch {
	case err == nil:
		delete(k.missing, name)
	case !k.missing[name]:
		k.missing[name] = true
		k.log.Error("the keeper could not be given a copy; it is tried again", "name", name, "error", err)
	}
}

// drop ends the keeping of something. When it returns, nobody has a copy; what else has its name is kept.
func (k *keeping) drop(one *kept) {
	k.mu.Lock()
	defer k.mu.Unlock()
	wasLast := one == k.last(one.name)
	k.kept = slices.DeleteFunc(k.kept, func(other *kept) bool { return other == one })
	if !wasLast {
		return
	}
	k.dropCopy(one.name)
	if last := k.last(one.name); last != nil && !k.closed && k.link != nil {
		k.give(last)
	}
}

// dropInherited has the keeper drop what it has under a name from an earlier supervisor.
func (k *keeping) dropInherited(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.last(name) == nil {
		k.dropCopy(name)
	}
}

func (k *keeping) dropCopy(name string) {
	delete(k.missing, name)
	if k.closed || k.link == nil {
		return
	}
	if err := k.link.Drop(name); err != nil {
		k.log.Error("close the copy of a listener", "name", name, "error", err)
	}
}

// leave says what a next supervisor is to be started with.
func (k *keeping) leave(n handoff.Note) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.note = n
	if k.link != nil {
		k.tell()
	}
}

// refresh replaces the environment of a next supervisor.
func (k *keeping) refresh(env []string) {
	k.mu.Lock()
	n := k.note
	k.mu.Unlock()
	n.Env = env
	k.leave(n)
}

func (k *keeping) tell() {
	if k.note.Args == nil {
		return
	}
	if err := k.link.Leave(k.note); err != nil {
		k.log.Error("tell the keeper", "error", err)
	}
}

// end ends the keeper. When it returns, nobody but us has anything that we listen on.
func (k *keeping) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return
	}
	k.closed = true
	if k.link != nil {
		k.link.End()
	}
}

// letRevive leaves everything to the keeper, which starts another supervisor as if this one had died. False if there is none.
func (k *keeping) letRevive() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed || k.link == nil {
		return false
	}
	k.closed = true
	k.link.Close()
	return true
}

// gone returns when the keeper has ended or ctx has, and reports which: true for the keeper. One that ended less than
// recently ago, and was replaced since, counts as well.
func (k *keeping) gone(ctx context.Context, recently time.Duration) bool {
	k.mu.Lock()
	link, lostAt := k.link, k.lostAt
	k.mu.Unlock()
	if link == nil || !lostAt.IsZero() && time.Since(lostAt) < recently {
		return true
	}
	select {
	case <-link.Done():
		return true
	case <-ctx.Done():
		return false
	}
}

// replace has the keeper start our successor, from another program if exe is not empty, and returns when that one is
// ready. Then nothing is kept for us any more; the channel is closed when the successor's project ends.
func (k *keeping) replace(ctx context.Context, exe string) (<-chan struct{}, error) {
	link := k.start()
	if link == nil {
		return nil, errNoKeeper
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := link.Replace(ctx, exe); err != nil {
		k.giveAll() // it may have dropped what it had no use for
		return nil, err
	}
	k.closed = true
	return link.Done(), nil
}

// quit lets go of the keeper of our successor.
func (k *keeping) quit() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.link != nil {
		k.link.Close()
		k.setLink(nil)
	}
}
