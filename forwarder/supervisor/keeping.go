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
	electionHoldName = "election"
	socketHoldName   = "control"
)

func serviceHoldName(name string) string { return "service " + name }

// fileSource gives copies of what a name stands for, for the receiver to close.
type fileSource func() ([]*os.File, error)

// heldFiles is something that the keeper holds a copy of. Two may have the same name for a moment, as when a service's address
// changes while the old one is just being bound: the keeper has the one that came last, and the other one once that is dropped.
type heldFiles struct {
	name   string
	source fileSource
}

// handoffClient has a keeper hold what this supervisor listens on, and sees to it that there is one. It is safe for
// concurrent use.
type handoffClient struct {
	exe             string
	log             *slog.Logger
	onKeeperStarted func(pid int) // told of each keeper

	missingCh chan struct{} // something is missing

	keeperPID    atomic.Int64        // the keeper's pid; 0: there is none
	mu           sync.Mutex          // one conversation with the keeper at a time: a frozen one is killed after 2 s
	link         *handoff.KeeperLink // nil while there is none
	held         []*heldFiles        // in the order of their coming
	missing      map[string]bool     // by name, of what is kept: what the keeper could not be given, as while there is no free descriptor
	successor    handoff.Successor
	keeperDiedAt time.Time // when the keeper before this one was seen to have died
	isClosed     bool
}

// run keeps a keeper running until ctx ends or the keeping does.
func (k *handoffClient) run(ctx context.Context) {
	const first, most = 100 * time.Millisecond, 30 * time.Second
	for pause := (wait.Backoff{First: first, Max: most}); ; {
		began := time.Now()
		if link := k.ensureKeeper(); link != nil {
			k.onKeeperStarted(link.PID())
			if !k.retryMissing(ctx, link) {
				return
			}
			if k.recordKeeperDeath() {
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

// holdRetryInterval is how often it is tried again to give a keeper what it could not be given.
const holdRetryInterval = time.Second

// retryMissing gives a keeper what it could not be given, until it ends; false if ctx ends before.
func (k *handoffClient) retryMissing(ctx context.Context, link *handoff.KeeperLink) bool {
	var again <-chan time.Time // nil while nothing is missing: a supervisor at rest is not woken
	for {
		select {
		case <-link.Done():
			return true
		case <-ctx.Done():
			return false
		case <-k.missingCh:
			if again == nil {
				again = time.After(holdRetryInterval)
			}
		case <-again:
			again = nil
			k.sendMissing()
		}
	}
}

// sendMissing tries again to give the keeper what it could not be given.
func (k *handoffClient) sendMissing() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.isClosed || k.link == nil {
		return
	}
	for _, name := range slices.Collect(maps.Keys(k.missing)) {
		if last := k.latest(name); last != nil {
			k.sendFiles(last)
		}
	}
}

// ensureKeeper returns the keeper that there is, or starts one and gives it everything. Nil if that cannot be done now.
func (k *handoffClient) ensureKeeper() *handoff.KeeperLink {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.link != nil || k.isClosed {
		return k.link
	}
	link, err := handoff.Start(k.exe)
	if err != nil {
		k.log.Error("no keeper", "error", err)
		return nil
	}
	k.setLink(link)
	k.sendAll()
	return link
}

func (k *handoffClient) sendAll() {
	for _, one := range k.held {
		if one == k.latest(one.name) {
			k.sendFiles(one)
		}
	}
	k.sendSuccessor()
}

// pid is the keeper's, 0 if there is none. It never waits.
func (k *handoffClient) pid() int { return int(k.keeperPID.Load()) }

// setLink changes the link. k.mu is held.
func (k *handoffClient) setLink(link *handoff.KeeperLink) {
	k.link = link
	k.keeperPID.Store(0)
	if link != nil {
		k.keeperPID.Store(int64(link.PID()))
	}
}

// recordKeeperDeath takes note of a keeper's end; true if it was ours to cause.
func (k *handoffClient) recordKeeperDeath() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.setLink(nil)
	k.keeperDiedAt = time.Now()
	return k.isClosed
}

// hold has the keeper hold what source gives, under a name, until it is dropped.
func (k *handoffClient) hold(name string, source fileSource) *heldFiles {
	k.mu.Lock()
	defer k.mu.Unlock()
	one := &heldFiles{name, source}
	if k.isClosed {
		return one
	}
	k.held = append(k.held, one)
	if k.link != nil {
		k.sendFiles(one)
	}
	return one
}

// replaceHeld has the keeper hold what source gives under a name, instead of all that it had under it.
func (k *handoffClient) replaceHeld(name string, source fileSource) {
	k.mu.Lock()
	k.held = slices.DeleteFunc(k.held, func(one *heldFiles) bool { return one.name == name })
	k.mu.Unlock()
	k.hold(name, source)
}

// latest is what the keeper is to have under a name; nil for nothing.
func (k *handoffClient) latest(name string) *heldFiles {
	for _, one := range slices.Backward(k.held) {
		if one.name == name {
			return one
		}
	}
	return nil
}

func (k *handoffClient) sendFiles(one *heldFiles) {
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
func (k *handoffClient) drop(one *heldFiles) {
	k.mu.Lock()
	defer k.mu.Unlock()
	wasLast := one == k.latest(one.name)
	k.held = slices.DeleteFunc(k.held, func(other *heldFiles) bool { return other == one })
	if !wasLast {
		return
	}
	k.dropCopy(one.name)
	if last := k.latest(one.name); last != nil && !k.isClosed && k.link != nil {
		k.sendFiles(last)
	}
}

// dropInherited has the keeper drop what it has under a name from an earlier supervisor.
func (k *handoffClient) dropInherited(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.latest(name) == nil {
		k.dropCopy(name)
	}
}

func (k *handoffClient) dropCopy(name string) {
	delete(k.missing, name)
	if k.isClosed || k.link == nil {
		return
	}
	if err := k.link.Drop(name); err != nil {
		k.log.Error("close the copy of a listener", "name", name, "error", err)
	}
}

// setSuccessor says what a next supervisor is to be started with.
func (k *handoffClient) setSuccessor(n handoff.Successor) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.successor = n
	if k.link != nil {
		k.sendSuccessor()
	}
}

// setSuccessorEnviron replaces the environment of a next supervisor.
func (k *handoffClient) setSuccessorEnviron(env []string) {
	k.mu.Lock()
	n := k.successor
	k.mu.Unlock()
	n.Env = env
	k.setSuccessor(n)
}

func (k *handoffClient) sendSuccessor() {
	if k.successor.Args == nil {
		return
	}
	if err := k.link.SetSuccessor(k.successor); err != nil {
		k.log.Error("tell the keeper", "error", err)
	}
}

// endKeeper ends the keeper. When it returns, nobody but us has anything that we listen on.
func (k *handoffClient) endKeeper() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.isClosed {
		return
	}
	k.isClosed = true
	if k.link != nil {
		k.link.End()
	}
}

// leaveToKeeper leaves everything to the keeper, which starts another supervisor as if this one had died. False if there is none.
func (k *handoffClient) leaveToKeeper() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.isClosed || k.link == nil {
		return false
	}
	k.isClosed = true
	k.link.Close()
	return true
}

// waitKeeperDeath returns when the keeper has ended or ctx has, and reports which: true for the keeper. One that ended less than
// recently ago, and was replaced since, counts as well.
func (k *handoffClient) waitKeeperDeath(ctx context.Context, recently time.Duration) bool {
	k.mu.Lock()
	link, lostAt := k.link, k.keeperDiedAt
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

// startSuccessor has the keeper start our successor, from another program if exe is not empty, and returns when that one is
// ready. Then nothing is kept for us any more; the channel is closed when the successor's project ends.
func (k *handoffClient) startSuccessor(ctx context.Context, exe string) (<-chan struct{}, error) {
	link := k.ensureKeeper()
	if link == nil {
		return nil, errNoKeeper
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := link.Replace(ctx, exe); err != nil {
		k.sendAll() // it may have dropped what it had no use for
		return nil, err
	}
	k.isClosed = true
	return link.Done(), nil
}

// disconnect lets go of the keeper of our successor.
func (k *handoffClient) disconnect() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.link != nil {
		k.link.Close()
		k.setLink(nil)
	}
}
