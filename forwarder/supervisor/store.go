package supervisor

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
)

// change edits the state. It may be applied more than once, and to a newer state than the one it was made for.
type change func(*lockstate.State)

// noChange is an empty change: written with bump set, it has every prompt of the project re-evaluate.
func noChange(*lockstate.State) {}

// store caches the state file and queues changes to it. A change takes effect in the cache at once and is written as soon as
// possible: a full disk or a held lock prevents no client from joining or leaving the project. It is safe for concurrent use.
type store struct {
	dir  *lockstate.Dir
	self lockstate.Process // the supervisor
	log  *slog.Logger
	// onChange is called, without a lock held, after each change of the cached state or of writeErr.
	onChange func()
	// yield is called where the order of goroutines decides what happens, and does nothing. Tests use it to choose the order.
	yield func()

	writeSlot chan struct{} // held while the file is written
	pendingCh chan struct{} // changes are queued

	mu       sync.Mutex // guards the fields below; never held while a file is read or written
	known    lockstate.State
	pending  []pendingChange
	writeErr error  // of the last write; nil if it succeeded
	line     uint64 // of the state file as far as it is known; a file with a lower one is an older copy
	// fingerprint is that of the files when they were last read.
	fingerprint lockstate.Fingerprint
}

type pendingChange struct {
	change change
	bump   bool
}

// writeRetryInterval is the time between attempts to write queued changes.
const writeRetryInterval = time.Second

func newStore(dir *lockstate.Dir, log *slog.Logger, onChange func()) *store {
	return &store{
		dir: dir, self: lockstate.Self(), log: log, onChange: onChange, yield: func() {}, writeSlot: make(chan struct{}, 1), pendingCh: make(chan struct{}, 1),
	}
}

// state returns the cached state, queued changes included.
func (st *store) state() lockstate.State {
	st.mu.Lock()
	defer st.mu.Unlock()
	return cloneState(st.known)
}

func cloneState(s lockstate.State) lockstate.State {
	s.Leases = slices.Clone(s.Leases)
	if s.Supervisor != nil {
		copied := *s.Supervisor
		s.Supervisor = &copied
	}
	return s
}

// set replaces the cached state.
func (st *store) set(s lockstate.State) {
	st.mu.Lock()
	st.known = cloneState(s)
	st.mu.Unlock()
	st.onChange()
}

// setRead is set for a state that has just been read from the file.
func (st *store) setRead(s lockstate.State) {
	st.mu.Lock()
	st.line = s.Line
	st.mu.Unlock()
	st.set(s)
}

// bump raises the number of the prompts' line in the file and in the cache. before is called within the update, each time it is made, with the number
// that the line will have.
func (st *store) bump(ctx context.Context, before func(number uint64)) error {
	select {
	case st.writeSlot <- struct{}{}: // or a sync that has read the file before this could set the cache after it
		defer func() { <-st.writeSlot }()
	case <-ctx.Done():
		return ctx.Err()
	}
	state, err := st.dir.Update(ctx, func(tx *lockstate.Tx) error {
		tx.Bump()
		before(tx.BumpedLine())
		return nil
	})
	if err == nil {
		st.recordLine(state.Line)
	}
	return err
}

// recordLine records in the cache that the number of the prompts' line was raised in the file without a change that the cache lacks. If another process
// has raised it too since the file was read, the cache keeps its number until the next sync: it does not have that process's change yet. It returns the
// number that the cache has then.
func (st *store) recordLine(number uint64) uint64 {
	st.mu.Lock()
	defer st.mu.Unlock()
	if number == st.known.Line+1 {
		st.known.Line, st.line = number, number
	}
	return st.known.Line
}

// hasOwnLeases reports whether anybody but other projects uses the project.
func (st *store) hasOwnLeases() bool {
	state := st.state()
	state.PruneLeases()
	return slices.ContainsFunc(state.Leases, func(l lockstate.Lease) bool { return l.Kind != lockstate.BorrowedLease })
}

// writeError returns the error of the last write. If it is not nil, the cache may hold changes that the file lacks.
func (st *store) writeError() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.writeErr
}

// add queues a change without waiting for the file.
func (st *store) add(change change) { st.enqueue(pendingChange{change, false}) }

func (st *store) enqueue(p pendingChange) {
	st.yield()
	st.mu.Lock()
	known := cloneState(st.known)
	p.change(&known)
	st.known = known
	st.pending = append(st.pending, p)
	st.mu.Unlock()
	wait.Notify(st.pendingCh)
	st.onChange()
}

// addAndWrite queues a change and writes it if that is possible before ctx ends. With bump, prompts re-evaluate.
func (st *store) addAndWrite(ctx context.Context, change change, bump bool) {
	st.enqueue(pendingChange{change, bump})
	_ = st.sync(ctx) // retryWrites retries
}

// refresh calls sync unless the files are unchanged, nothing is queued and every process with a lease is alive: without this check,
// an idle supervisor would keep the code that reads and writes JSON in memory (0.8 MB).
func (st *store) refresh(ctx context.Context) error {
	files := st.dir.Fingerprint()
	st.mu.Lock()
	known, isCurrent := cloneState(st.known), files == st.fingerprint && len(st.pending) == 0 && st.writeErr == nil
	st.mu.Unlock()
	leases := len(known.Leases)
	if known.PruneLeases(); isCurrent && len(known.Leases) == leases {
		return nil
	}
	return st.sync(ctx)
}

// sync writes queued changes and reads what others have written. After an error the cache is kept.
func (st *store) sync(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	st.yield()
	select {
	case st.writeSlot <- struct{}{}:
		defer func() { <-st.writeSlot }()
	case <-ctx.Done():
		return ctx.Err()
	}
	st.yield()
	pending := st.pendingChanges()
	files := st.dir.Fingerprint() // taken before reading, so that the next refresh sees a change made meanwhile
	var changed lockstate.State   // whether it is written or not
	var line uint64               // of the file
	state, err := st.dir.Update(ctx, func(tx *lockstate.Tx) error {
		line = tx.Line
		st.restoreLost(tx)
		for _, p := range pending {
			p.change(&tx.State)
			if p.bump {
				tx.Bump()
			}
		}
		tx.PruneLeases()
		changed = cloneState(tx.State)
		return nil
	})
	if err != nil {
		state = changed // Update returns the state of the file if it could not lock it
	}
	st.recordSync(state, line, files, err, len(pending))
	return err
}

// applyPending applies the queued changes to a state that is about to be written.
func (st *store) applyPending(state *lockstate.State) {
	for _, p := range st.pendingChanges() {
		p.change(state)
	}
}

// pendingChanges returns the queued changes, the oldest first.
func (st *store) pendingChanges() []pendingChange {
	st.mu.Lock()
	defer st.mu.Unlock()
	return slices.Clone(st.pending)
}

// recordSync updates the cache after a write. line is that of the file before it.
func (st *store) recordSync(state lockstate.State, line uint64, files lockstate.Fingerprint, err error, written int) {
	st.mu.Lock()
	before := st.writeErr
	st.writeErr = err
	unwritten := errors.As(err, new(*lockstate.WriteError))
	if err == nil {
		st.pending = slices.Delete(st.pending, 0, written)
		st.line, st.fingerprint = state.Line, files
	}
	if err == nil || unwritten && state.ID != "" {
		state = cloneState(state)
		if err != nil && st.known.ID != "" {
			state.ID = st.known.ID // of the last state that was written: the next sync must see that the file is another one
		}
		st.line = max(st.line, line)
		for _, p := range st.pending {
			p.change(&state) // queued meanwhile
		}
		st.known = state
	}
	st.mu.Unlock()
	switch {
	case err != nil && (before == nil || before.Error() != err.Error()):
		st.log.Warn("cannot write the state; retrying", "error", err)
	case err == nil && before != nil:
		st.log.Info("the state is written again")
	}
	st.onChange()
}

// retryWrites writes queued changes as soon as that is possible, until ctx or ended ends.
func (st *store) retryWrites(ctx context.Context, endedCh <-chan struct{}) {
	var retryCh <-chan time.Time // nil while nothing is queued: an idle supervisor is not woken
	for {
		select {
		case <-ctx.Done():
			return
		case <-endedCh:
			return
		case <-st.pendingCh:
			if retryCh == nil {
				retryCh = time.After(writeRetryInterval)
			}
		case <-retryCh:
			st.yield()
			tryReceive(st.pendingCh) // written now
			if retryCh = nil; len(st.pendingChanges()) == 0 {
				continue
			}
			writeCtx, cancel := context.WithTimeout(ctx, writeRetryInterval)
			_ = st.sync(writeCtx)
			cancel()
			if len(st.pendingChanges()) > 0 {
				wait.Notify(st.pendingCh)
			}
		}
	}
}

// restoreLost restores the cached state if the state file was deleted and recreated, or replaced by an older copy.
func (st *store) restoreLost(tx *lockstate.Tx) {
	st.mu.Lock()
	known, line := cloneState(st.known), st.line
	st.mu.Unlock()
	isOlder := tx.IsOlderCopy || tx.Line < line
	if known.ID == "" || tx.ID == known.ID && !isOlder {
		return
	}
	tx.IsOlderCopy = false
	tx.Line = max(tx.Line, line) // a number that prompts have seen would hide a change
	for _, lease := range known.Leases {
		tx.AddLease(lease)
	}
	if other := tx.Supervisor; other != nil && other.IsAlive() && other.Process != st.self {
		tx.Bump() // another supervisor was elected meanwhile: its record stays, and the leases are its own now
		return
	}
	if tx.ID == known.ID { // an older copy may say that the project is down; a "stop" asks this supervisor to end
		tx.Down = known.Down
	}
	tx.Supervisor, tx.Ports = known.Supervisor, known.Ports
	tx.Stopped, tx.Started, tx.Only = known.Stopped, known.Started, known.Only
	tx.Bump()
}

// lockTimeout bounds a write that a client waits for. It is shorter than a prompt's own limit.
const lockTimeout = time.Second
