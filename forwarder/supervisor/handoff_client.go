package supervisor

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
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

	requestSlot chan struct{} // a semaphore: one request at a time. A keeper that does not answer within 2 s is killed
	missingCh   chan struct{} // the keeper could not be given something

	mu              sync.Mutex          // guards the fields below; never held during a request
	link            *handoff.KeeperLink // nil while there is none
	held            []*heldFiles        // what the keeper is to hold, in the order of hold
	sent            map[string]*heldFiles
	missing         map[string]bool // names that could not be sent, for lack of a file descriptor for example
	successor       handoff.Successor
	isSuccessorSent bool      // the keeper knows successor
	keeperDiedAt    time.Time // when the last death of a keeper was noticed
	isClosed        bool      // the keeper serves a successor, or was ended
}

func newHandoffClient(exe string, log *slog.Logger, onKeeperStarted func(context.Context, int)) *handoffClient {
	return &handoffClient{
		exe: exe, log: log, onKeeperStarted: onKeeperStarted,
		requestSlot: make(chan struct{}, 1), missingCh: make(chan struct{}, 1),
		sent: make(map[string]*heldFiles), missing: make(map[string]bool),
	}
}

// run keeps a keeper running until ctx ends or the client is closed.
func (c *handoffClient) run(ctx context.Context) {
	for backoff := (wait.Backoff{First: 100 * time.Millisecond, Max: 30 * time.Second}); ; {
		startedAt := time.Now()
		if link := c.ensureKeeper(); link != nil {
			c.onKeeperStarted(ctx, link.PID())
			if !c.retryMissing(ctx, link) || c.recordKeeperDeath() {
				return
			}
			c.log.Warn("the keeper died; starting another")
		}
		if time.Since(startedAt) > backoff.Max {
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
func (c *handoffClient) retryMissing(ctx context.Context, link *handoff.KeeperLink) bool {
	var retryCh <-chan time.Time // nil while nothing is missing: an idle supervisor is not woken
	for {
		select {
		case <-link.Done():
			return true
		case <-ctx.Done():
			return false
		case <-c.missingCh:
			if retryCh == nil {
				retryCh = time.After(holdRetryInterval)
			}
		case <-retryCh:
			retryCh = nil
			c.reconcile()
		}
	}
}

// ensureKeeper returns the running keeper, or starts one and sends it everything. Nil if that fails.
func (c *handoffClient) ensureKeeper() *handoff.KeeperLink {
	if link, isClosed := c.currentLink(); link != nil || isClosed {
		return link
	}
	link := c.startKeeper()
	if link != nil {
		c.reconcile()
	}
	return link
}

// currentLink returns the link, nil while there is none, and whether the client is closed.
func (c *handoffClient) currentLink() (link *handoff.KeeperLink, isClosed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.link, c.isClosed
}

// startKeeper starts a keeper unless one runs or the client is closed. Nil if that fails.
func (c *handoffClient) startKeeper() *handoff.KeeperLink {
	defer c.acquireRequestSlot()()
	if link, isClosed := c.currentLink(); link != nil || isClosed {
		return link
	}
	link, err := handoff.Start(c.exe)
	if err != nil {
		c.log.Error("cannot start a keeper; retrying", "error", err)
		return nil
	}
	c.mu.Lock()
	isClosed := c.isClosed
	if !isClosed {
		c.setLinkLocked(link)
	}
	c.mu.Unlock()
	if isClosed { // meanwhile
		link.End()
		return nil
	}
	return link
}

// acquireRequestSlot waits until no request runs, and returns a function that lets the next one run.
func (c *handoffClient) acquireRequestSlot() (release func()) {
	c.requestSlot <- struct{}{}
	return func() { <-c.requestSlot }
}

// pid returns the keeper's pid, 0 if there is none. It never waits for a request.
func (c *handoffClient) pid() int {
	link, _ := c.currentLink()
	if link == nil {
		return 0
	}
	return link.PID()
}

// setLink sets the link to a keeper, to which everything is to be sent.
func (c *handoffClient) setLink(link *handoff.KeeperLink) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setLinkLocked(link)
}

// setLinkLocked is setLink for a caller that holds c.mu. A nil link is none.
func (c *handoffClient) setLinkLocked(link *handoff.KeeperLink) {
	c.link = link
	clear(c.sent)
	c.isSuccessorSent = false
}

// recordKeeperDeath notes that the keeper has ended, and reports whether this client has ended or left it.
func (c *handoffClient) recordKeeperDeath() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setLinkLocked(nil)
	c.keeperDiedAt = time.Now()
	return c.isClosed
}

// hold has the keeper hold the files of source under a name until drop.
func (c *handoffClient) hold(name string, source fileSource) *heldFiles {
	entry := &heldFiles{name, source}
	c.change(func() { c.held = append(c.held, entry) })
	return entry
}

// replaceHeld is hold, but drops all entries that have the name.
func (c *handoffClient) replaceHeld(name string, source fileSource) {
	c.change(func() {
		c.held = slices.DeleteFunc(c.held, func(entry *heldFiles) bool { return entry.name == name })
		c.held = append(c.held, &heldFiles{name, source})
	})
}

// latest returns the entry that the keeper is to have under a name; nil if there is none. c.mu is held.
func (c *handoffClient) latest(name string) *heldFiles {
	for _, entry := range slices.Backward(c.held) {
		if entry.name == name {
			return entry
		}
	}
	return nil
}

// drop has the keeper close its copies of an entry and returns when it has. Another entry of the same name stays held.
func (c *handoffClient) drop(entry *heldFiles) {
	c.change(func() {
		c.held = slices.DeleteFunc(c.held, func(other *heldFiles) bool { return other == entry })
		if c.latest(entry.name) == nil {
			delete(c.missing, entry.name)
		}
	})
}

// dropInherited has the keeper close what an earlier supervisor gave it under a name.
func (c *handoffClient) dropInherited(name string) {
	c.change(func() {
		if c.latest(name) == nil {
			c.sent[name] = &heldFiles{name: name}
		}
	})
}

// setSuccessor tells the keeper how to start the next supervisor.
func (c *handoffClient) setSuccessor(successor handoff.Successor) {
	c.change(func() { c.successor, c.isSuccessorSent = successor, false })
}

// change edits, while c.mu is held, what the keeper is to have, and then sends it the difference.
func (c *handoffClient) change(edit func()) {
	c.mu.Lock()
	edit()
	c.mu.Unlock()
	c.reconcile()
}

// reconcile makes what the keeper has equal to what it is to have, and returns when the keeper has answered. What cannot be sent is
// retried by run.
func (c *handoffClient) reconcile() {
	defer c.acquireRequestSlot()()
	for failed := make(map[*heldFiles]bool); ; {
		request := c.nextRequest(failed)
		if request == nil {
			return
		}
		request()
	}
}

// nextRequest returns a request for one difference between what the keeper has and what it is to have; nil if there is none. A request that fails adds
// its entry to failed, nil for the successor.
func (c *handoffClient) nextRequest(failed map[*heldFiles]bool) func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	link := c.link
	if link == nil || c.isClosed {
		return nil
	}
	for name, entry := range c.sent {
		latest := c.latest(name)
		if latest != nil && latest != entry && !failed[latest] {
			return func() { c.sendFiles(link, latest, failed) } // in place of the other
		}
		if latest == nil || latest != entry && !slices.Contains(c.held, entry) {
			return func() { c.dropCopy(link, name) }
		}
	}
	for _, entry := range c.held {
		if entry == c.latest(entry.name) && c.sent[entry.name] == nil && !failed[entry] {
			return func() { c.sendFiles(link, entry, failed) }
		}
	}
	if c.successor.Args != nil && !c.isSuccessorSent && !failed[nil] {
		successor := c.successor
		c.isSuccessorSent = true // unless it is set again meanwhile
		return func() { c.sendSuccessor(link, successor, failed) }
	}
	return nil
}

func (c *handoffClient) sendFiles(link *handoff.KeeperLink, entry *heldFiles, failed map[*heldFiles]bool) {
	files, err := entry.source()
	if err == nil {
		err = link.Hold(entry.name, files)
		closeFiles(files)
	}
	if err != nil {
		failed[entry] = true
		c.addMissing(entry.name, "cannot give the keeper copies of a listener; retrying", err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link == link { // else that keeper has died meanwhile
		c.sent[entry.name] = entry
		delete(c.missing, entry.name)
	}
}

// addMissing has run retry what could not be sent, and logs it the first time.
func (c *handoffClient) addMissing(name, message string, err error) {
	c.mu.Lock()
	isKnown := c.missing[name]
	c.missing[name] = true
	c.mu.Unlock()
	wait.Notify(c.missingCh)
	if !isKnown {
		c.log.Error(message, "name", name, "error", err)
	}
}

func (c *handoffClient) dropCopy(link *handoff.KeeperLink, name string) {
	if err := link.Drop(name); err != nil {
		c.log.Error("the keeper did not close its copies of a listener", "name", name, "error", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sent, name) // a keeper that did not answer is killed
	delete(c.missing, name)
}

func (c *handoffClient) sendSuccessor(link *handoff.KeeperLink, successor handoff.Successor, failed map[*heldFiles]bool) {
	err := link.SetSuccessor(successor)
	c.mu.Lock()
	if err == nil {
		delete(c.missing, successorName)
	} else {
		failed[nil], c.isSuccessorSent = true, false
	}
	c.mu.Unlock()
	if err != nil {
		c.addMissing(successorName, "cannot tell the keeper how to start the next supervisor; retrying", err)
	}
}

// endKeeper ends the keeper. When it returns, only this process has the listeners.
func (c *handoffClient) endKeeper() {
	defer c.acquireRequestSlot()()
	if link := c.close(); link != nil {
		link.End()
	}
}

// close has the client send nothing more. It returns the link; nil if there is none, or the client was closed before.
func (c *handoffClient) close() *handoff.KeeperLink {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isClosed {
		return nil
	}
	c.isClosed = true
	return c.link
}

// leaveToKeeper closes the link: the keeper starts another supervisor, as after a crash. It returns false if there is no keeper.
func (c *handoffClient) leaveToKeeper() bool {
	defer c.acquireRequestSlot()()
	if link, _ := c.currentLink(); link == nil {
		return false
	}
	link := c.close()
	if link != nil {
		link.Close()
	}
	return link != nil
}

// waitKeeperDeath waits for the keeper to end. False if ctx ends first, or if there is no keeper. The death of an earlier keeper
// counts if it was after since.
func (c *handoffClient) waitKeeperDeath(ctx context.Context, since time.Time) bool {
	c.mu.Lock()
	link, diedAt := c.link, c.keeperDiedAt
	c.mu.Unlock()
	if diedAt.After(since) {
		return true
	}
	if link == nil {
		return false
	}
	select {
	case <-link.Done():
		return true
	case <-ctx.Done():
		return wait.IsClosed(link.Done())
	}
}

// hasDied reports whether the keeper has died, and no other was started yet.
func (c *handoffClient) hasDied() bool {
	link, _ := c.currentLink()
	return link != nil && wait.IsClosed(link.Done())
}

// startSuccessor has the keeper start a successor, from another program if exe is not empty, and returns when that is ready. The
// keeper then serves the successor; the channel is closed when it ends.
func (c *handoffClient) startSuccessor(ctx context.Context, exe string) (<-chan struct{}, error) {
	link := c.ensureKeeper()
	if link == nil {
		return nil, errNoKeeper
	}
	c.requestSlot <- struct{}{}
	err := link.Replace(ctx, exe)
	c.mu.Lock()
	if err == nil {
		c.isClosed = true
	} else if c.link == link {
		c.setLinkLocked(link) // the failed successor may have dropped files
	}
	c.mu.Unlock()
	<-c.requestSlot
	if err != nil {
		c.reconcile()
		return nil, err
	}
	return link.Done(), nil
}

// disconnect closes the link to the successor's keeper.
func (c *handoffClient) disconnect() {
	c.mu.Lock()
	link := c.link
	c.setLinkLocked(nil)
	c.mu.Unlock()
	if link != nil {
		link.Close()
	}
}

var errNoKeeper = errors.New("no keeper is running and none could be started; the supervisor's log says why")

// copyListeners returns copies of the services' listeners, by the names that the keeper holds them under.
func (c *handoffClient) copyListeners() map[string][]*os.File {
	c.mu.Lock()
	defer c.mu.Unlock()
	files := make(map[string][]*os.File)
	for _, entry := range c.held {
		isListener := strings.HasPrefix(entry.name, serviceHoldName("")) || strings.HasPrefix(entry.name, bridgeHoldPrefix)
		if !isListener || entry != c.latest(entry.name) {
			continue
		}
		copies, err := entry.source()
		if err != nil {
			c.log.Error("cannot copy a listener", "name", entry.name, "error", err)
			continue
		}
		files[entry.name] = copies
	}
	return files
}
