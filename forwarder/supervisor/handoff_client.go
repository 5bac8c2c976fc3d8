package supervisor

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/localport-sh/localport/forwarder/handoff"
	"github.com/localport-sh/localport/forwarder/wait"
)

// The names under which the keeper holds the election lock and the control socket. successorName stands for the successor in
// handoffClient.missing.
const (
	electionHoldName = "election"
	socketHoldName   = "control"
	successorName    = "successor"
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

// handoffClient keeps a keeper process running and has it hold copies of what this supervisor listens on. The methods change what the
// keeper is to hold; reconcile sends it the difference. It is safe for concurrent use.
type handoffClient struct {
	exe             string
	log             *slog.Logger
	onKeeperStarted func(ctx context.Context, pid int) // called for each keeper

	requestSlot chan struct{} // a semaphore for requests to the keeper; one takes at most 2 s: then a frozen keeper is killed
	missingCh   chan struct{} // the keeper could not be given something
	keeperPID   atomic.Int64  // 0 while there is no keeper

	mu           sync.Mutex          // guards the fields below; never held during a request
	link         *handoff.KeeperLink // nil while there is none
	held         []*heldFiles        // what the keeper is to hold, in the order of hold
	sent         map[string]*heldFiles
	missing      map[string]bool // names that could not be sent, for lack of a file descriptor for example
	successor    handoff.Successor
	isSent       bool      // the keeper knows successor
	keeperDiedAt time.Time // when the last death of a keeper was noticed
	isClosed     bool      // the keeper is left to a successor, or ended
}

func newHandoffClient(exe string, log *slog.Logger, onKeeperStarted func(context.Context, int)) *handoffClient {
	return &handoffClient{
		exe: exe, log: log, onKeeperStarted: onKeeperStarted,
		requestSlot: make(chan struct{}, 1), missingCh: make(chan struct{}, 1),
		sent: make(map[string]*heldFiles), missing: make(map[string]bool),
	}
}

// run keeps a keeper running until ctx ends or the client is closed.
func (k *handoffClient) run(ctx context.Context) {
	const firstPause, maxPause = 100 * time.Millisecond, 30 * time.Second
	for backoff := (wait.Backoff{First: firstPause, Max: maxPause}); ; {
		startedAt := time.Now()
		if link := k.ensureKeeper(); link != nil {
			k.onKeeperStarted(ctx, link.PID())
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
			k.reconcile()
		}
	}
}

// ensureKeeper returns the running keeper, or starts one and sends it everything. Nil if that fails.
func (k *handoffClient) ensureKeeper() *handoff.KeeperLink {
	if link, isClosed := k.currentLink(); link != nil || isClosed {
		return link
	}
	link := k.startKeeper()
	if link != nil {
		k.reconcile()
	}
	return link
}

// currentLink returns the link, nil while there is none, and whether the client is closed.
func (k *handoffClient) currentLink() (link *handoff.KeeperLink, isClosed bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.link, k.isClosed
}

// startKeeper starts a keeper unless one runs or the client is closed. Nil if that fails.
func (k *handoffClient) startKeeper() *handoff.KeeperLink {
	k.requestSlot <- struct{}{}
	defer func() { <-k.requestSlot }()
	if link, isClosed := k.currentLink(); link != nil || isClosed {
		return link
	}
	link, err := handoff.Start(k.exe)
	if err != nil {
		k.log.Error("start a keeper", "error", err)
		return nil
	}
	k.mu.Lock()
	isClosed := k.isClosed
	if !isClosed {
		k.setLinkLocked(link)
	}
	k.mu.Unlock()
	if isClosed { // meanwhile
		link.End()
		return nil
	}
	return link
}

// pid returns the keeper's pid, 0 if there is none. It never waits.
func (k *handoffClient) pid() int { return int(k.keeperPID.Load()) }

// setLink sets the link to a keeper, to which everything is to be sent.
func (k *handoffClient) setLink(link *handoff.KeeperLink) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.setLinkLocked(link)
}

// setLinkLocked is setLink for a caller that holds k.mu. A nil link is none.
func (k *handoffClient) setLinkLocked(link *handoff.KeeperLink) {
	k.link = link
	clear(k.sent)
	k.isSent = false
	k.keeperPID.Store(0)
	if link != nil {
		k.keeperPID.Store(int64(link.PID()))
	}
}

// recordKeeperDeath notes that the keeper has ended, and reports whether this client has ended or left it.
func (k *handoffClient) recordKeeperDeath() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.setLinkLocked(nil)
	k.keeperDiedAt = time.Now()
	return k.isClosed
}

// hold has the keeper hold the files of source under a name until drop.
func (k *handoffClient) hold(name string, source fileSource) *heldFiles {
	one := &heldFiles{name, source}
	k.mu.Lock()
	k.held = append(k.held, one)
	k.mu.Unlock()
	k.reconcile()
	return one
}

// replaceHeld is hold, but drops all entries that have the name.
func (k *handoffClient) replaceHeld(name string, source fileSource) {
	k.mu.Lock()
	k.held = slices.DeleteFunc(k.held, func(one *heldFiles) bool { return one.name == name })
	k.held = append(k.held, &heldFiles{name, source})
	k.mu.Unlock()
	k.reconcile()
}

// latest returns the entry that the keeper is to have under a name; nil if there is none. k.mu is held.
func (k *handoffClient) latest(name string) *heldFiles {
	for _, one := range slices.Backward(k.held) {
		if one.name == name {
			return one
		}
	}
	return nil
}

// drop has the keeper close its copies of an entry and returns when it has. Another entry of the same name stays held.
func (k *handoffClient) drop(one *heldFiles) {
	k.mu.Lock()
	k.held = slices.DeleteFunc(k.held, func(other *heldFiles) bool { return other == one })
	if k.latest(one.name) == nil {
		delete(k.missing, one.name)
	}
	k.mu.Unlock()
	k.reconcile()
}

// dropInherited has the keeper close what an earlier supervisor gave it under a name.
func (k *handoffClient) dropInherited(name string) {
	k.mu.Lock()
	if k.latest(name) == nil {
		k.sent[name] = &heldFiles{name: name}
	}
	k.mu.Unlock()
	k.reconcile()
}

// setSuccessor tells the keeper how to start the next supervisor.
func (k *handoffClient) setSuccessor(n handoff.Successor) {
	k.mu.Lock()
	k.successor, k.isSent = n, false
	k.mu.Unlock()
	k.reconcile()
}

// setSuccessorEnviron replaces the environment of the next supervisor.
func (k *handoffClient) setSuccessorEnviron(env []string) {
	k.mu.Lock()
	k.successor.Env, k.isSent = env, false
	k.mu.Unlock()
	k.reconcile()
}

// reconcile makes what the keeper has equal to what it is to have, and returns when the keeper has answered. What cannot be sent is
// retried by run.
func (k *handoffClient) reconcile() {
	k.requestSlot <- struct{}{}
	defer func() { <-k.requestSlot }()
	for failed := make(map[*heldFiles]bool); ; {
		request := k.nextRequest(failed)
		if request == nil {
			return
		}
		request()
	}
}

// nextRequest returns a request that brings the keeper nearer to what it is to have; nil if there is none. A request that fails adds
// its entry to failed, nil for the successor.
func (k *handoffClient) nextRequest(failed map[*heldFiles]bool) func() {
	k.mu.Lock()
	defer k.mu.Unlock()
	link := k.link
	if link == nil || k.isClosed {
		return nil
	}
	for name, one := range k.sent {
		last := k.latest(name)
		if last != nil && last != one && !failed[last] {
			return func() { k.sendFiles(link, last, failed) } // takes the place of the other
		}
		if last == nil || last != one && !slices.Contains(k.held, one) {
			return func() { k.dropCopy(link, name) }
		}
	}
	for _, one := range k.held {
		if one == k.latest(one.name) && k.sent[one.name] == nil && !failed[one] {
			return func() { k.sendFiles(link, one, failed) }
		}
	}
	if k.successor.Args != nil && !k.isSent && !failed[nil] {
		successor := k.successor
		k.isSent = true // unless it is set again meanwhile
		return func() { k.sendSuccessor(link, successor, failed) }
	}
	return nil
}

func (k *handoffClient) sendFiles(link *handoff.KeeperLink, one *heldFiles, failed map[*heldFiles]bool) {
	files, err := one.source()
	if err == nil {
		err = link.Hold(one.name, files)
		closeFiles(files)
	}
	k.mu.Lock()
	isKnown := k.missing[one.name]
	if err == nil && k.link == link { // else that keeper has died meanwhile
		k.sent[one.name] = one
		delete(k.missing, one.name)
	} else if err != nil {
		failed[one] = true
		k.missing[one.name] = true
	}
	k.mu.Unlock()
	if err != nil {
		wait.Notify(k.missingCh)
	}
	if err != nil && !isKnown {
		k.log.Error("cannot give the keeper a copy; retrying", "name", one.name, "error", err)
	}
}

func (k *handoffClient) dropCopy(link *handoff.KeeperLink, name string) {
	err := link.Drop(name)
	k.mu.Lock()
	delete(k.sent, name) // a keeper that did not answer is killed
	delete(k.missing, name)
	k.mu.Unlock()
	if err != nil {
		k.log.Error("close the copy of a listener", "name", name, "error", err)
	}
}

func (k *handoffClient) sendSuccessor(link *handoff.KeeperLink, successor handoff.Successor, failed map[*heldFiles]bool) {
	err := link.SetSuccessor(successor)
	k.mu.Lock()
	isKnown := k.missing[successorName]
	if err == nil {
		delete(k.missing, successorName)
	} else {
		failed[nil], k.missing[successorName], k.isSent = true, true, false
	}
	k.mu.Unlock()
	if err != nil {
		wait.Notify(k.missingCh)
	}
	if err != nil && !isKnown {
		k.log.Error("tell the keeper how to start the next supervisor; retrying", "error", err)
	}
}

// endKeeper ends the keeper. When it returns, only this process has the listeners.
func (k *handoffClient) endKeeper() {
	k.requestSlot <- struct{}{}
	defer func() { <-k.requestSlot }()
	if link := k.close(); link != nil {
		link.End()
	}
}

// close has the client send nothing more. It returns the link; nil if there is none, or the client was closed before.
func (k *handoffClient) close() *handoff.KeeperLink {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.isClosed {
		return nil
	}
	k.isClosed = true
	return k.link
}

// leaveToKeeper closes the link, so that the keeper starts another supervisor as if this one had died. False if there is no keeper.
func (k *handoffClient) leaveToKeeper() bool {
	k.requestSlot <- struct{}{}
	defer func() { <-k.requestSlot }()
	if link, _ := k.currentLink(); link == nil {
		return false
	}
	link := k.close()
	if link == nil {
		return false
	}
	link.Close()
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
	k.requestSlot <- struct{}{}
	err := link.Replace(ctx, exe)
	k.mu.Lock()
	if err == nil {
		k.isClosed = true
	} else if k.link == link {
		k.setLinkLocked(link) // the failed successor may have dropped files
	}
	k.mu.Unlock()
	<-k.requestSlot
	if err != nil {
		k.reconcile()
		return nil, err
	}
	return link.Done(), nil
}

// disconnect closes the link to the successor's keeper.
func (k *handoffClient) disconnect() {
	k.mu.Lock()
	link := k.link
	k.setLinkLocked(nil)
	k.mu.Unlock()
	if link != nil {
		link.Close()
	}
}
