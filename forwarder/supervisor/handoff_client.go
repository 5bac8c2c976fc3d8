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

// The names under which the keeper holds the election lock and the control socket.
const (
	electionHoldName = "election"
	socketHoldName   = "control"
)

func serviceHoldName(name string) string { return "service " + name }

// fileSource returns copies of files, for the caller to close.
type fileSource func() ([]*os.File, error)

// heldFiles are files that the keeper holds copies of, under a name. Two entries may have the same name for a moment, as when a
// service's address changes while the old one is being bound: the keeper has the latest, and the other once that is dropped.
type heldFiles struct {
	name   string
	source fileSource
}

// handoffClient keeps a keeper process running and gives it copies of what this supervisor listens on. It is safe for concurrent
// use.
type handoffClient struct {
	exe             string
	log             *slog.Logger
	onKeeperStarted func(pid int) // called for each keeper

	missingCh chan struct{} // missing is not empty

	keeperPID    atomic.Int64        // 0 while there is no keeper
	mu           sync.Mutex          // guards the fields below; held during a request, which takes at most 2 s: then a frozen keeper is killed
	link         *handoff.KeeperLink // nil while there is none
	held         []*heldFiles        // in the order of hold
	missing      map[string]bool     // names of held files that the keeper could not be given, for lack of a file descriptor for example
	successor    handoff.Successor
	keeperDiedAt time.Time // when the last death of a keeper was noticed
	isClosed     bool
}

// run keeps a keeper running until ctx ends or the client is closed.
func (k *handoffClient) run(ctx context.Context) {
	const firstPause, maxPause = 100 * time.Millisecond, 30 * time.Second
	for backoff := (wait.Backoff{First: firstPause, Max: maxPause}); ; {
		startedAt := time.Now()
		if link := k.ensureKeeper(); link != nil {
			k.onKeeperStarted(link.PID())
			if !k.retryMissing(ctx, link) {
				return
			}
			if k.recordKeeperDeath() {
				return
			}
			k.log.Warn("the keeper died; starting another")
		}
		if time.Since(startedAt) > maxPause {
			backoff.Reset()
		}
		if !wait.Sleep(ctx, backoff.Next()) {
			return
		}
	}
}

// holdRetryInterval is the time between attempts to send missing files to the keeper.
const holdRetryInterval = time.Second

// retryMissing sends missing files to a keeper until that ends. False if ctx ends first.
func (k *handoffClient) retryMissing(ctx context.Context, link *handoff.KeeperLink) bool {
	var retry <-chan time.Time // nil while nothing is missing: an idle supervisor is not woken
	for {
		select {
		case <-link.Done():
			return true
		case <-ctx.Done():
			return false
		case <-k.missingCh:
			if retry == nil {
				retry = time.After(holdRetryInterval)
			}
		case <-retry:
			retry = nil
			k.sendMissing()
		}
	}
}

// sendMissing sends the missing files to the keeper.
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

// ensureKeeper returns the running keeper, or starts one and sends it everything. Nil if that fails.
func (k *handoffClient) ensureKeeper() *handoff.KeeperLink {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.link != nil || k.isClosed {
		return k.link
	}
	link, err := handoff.Start(k.exe)
	if err != nil {
		k.log.Error("start a keeper", "error", err)
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

// pid returns the keeper's pid, 0 if there is none. It never waits.
func (k *handoffClient) pid() int { return int(k.keeperPID.Load()) }

// setLink changes the link. k.mu is held.
func (k *handoffClient) setLink(link *handoff.KeeperLink) {
	k.link = link
	k.keeperPID.Store(0)
	if link != nil {
		k.keeperPID.Store(int64(link.PID()))
	}
}

// recordKeeperDeath notes that the keeper has ended, and reports whether this client has ended or left it.
func (k *handoffClient) recordKeeperDeath() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.setLink(nil)
	k.keeperDiedAt = time.Now()
	return k.isClosed
}

// hold has the keeper hold the files of source under a name until drop.
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

// replaceHeld is hold, but drops all entries that have the name.
func (k *handoffClient) replaceHeld(name string, source fileSource) {
	k.mu.Lock()
	k.held = slices.DeleteFunc(k.held, func(one *heldFiles) bool { return one.name == name })
	k.mu.Unlock()
	k.hold(name, source)
}

// latest returns the entry that the keeper should have under a name; nil if there is none.
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
		k.log.Error("cannot give the keeper a copy; retrying", "name", name, "error", err)
	}
}

// drop has the keeper close its copies of an entry and returns when it has. Another entry of the same name stays held.
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

// dropInherited has the keeper close what an earlier supervisor gave it under a name.
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

// setSuccessor tells the keeper how to start the next supervisor.
func (k *handoffClient) setSuccessor(n handoff.Successor) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.successor = n
	if k.link != nil {
		k.sendSuccessor()
	}
}

// setSuccessorEnviron replaces the environment of the next supervisor.
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
		k.log.Error("send the keeper the successor", "error", err)
	}
}

// endKeeper ends the keeper. When it returns, only this process has the listeners.
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

// leaveToKeeper closes the link, so that the keeper starts another supervisor as if this one had died. False if there is no keeper.
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

// waitKeeperDeath waits for the keeper to end. False if ctx ends first, or if there is no keeper. The death of an earlier keeper
// counts if it was less than recent ago.
func (k *handoffClient) waitKeeperDeath(ctx context.Context, recent time.Duration) bool {
	k.mu.Lock()
	link, lostAt := k.link, k.keeperDiedAt
	k.mu.Unlock()
	if !lostAt.IsZero() && time.Since(lostAt) < recent {
		return true
	}
	if link == nil {
		return false
	}
	select {
	case <-link.Done():
		return true
	case <-ctx.Done():
		return false
	}
}

// startSuccessor has the keeper start a successor, from another program if exe is not empty, and returns when that is ready. The
// keeper then serves the successor; the channel is closed when it ends.
func (k *handoffClient) startSuccessor(ctx context.Context, exe string) (<-chan struct{}, error) {
	link := k.ensureKeeper()
	if link == nil {
		return nil, errNoKeeper
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := link.Replace(ctx, exe); err != nil {
		k.sendAll() // the failed successor may have dropped files
		return nil, err
	}
	k.isClosed = true
	return link.Done(), nil
}

// disconnect closes the link to the successor's keeper.
func (k *handoffClient) disconnect() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.link != nil {
		k.link.Close()
		k.setLink(nil)
	}
}
