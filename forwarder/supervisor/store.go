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

// change is something that the supervisor wants to be in the state file. It may be made more than once, and on a newer state
// than the one that it was meant for.
type change func(*lockstate.State)

// bump is a change that has no content but makes every prompt of the project look again.
func bump(*lockstate.State) {}

// store is the supervisor's side of the state file: what it knows of it, and what it wants to be in it. A change counts here at
// once. It is written at once too if that is possible, and otherwise as soon as it is: a full disk or a lock that is held keeps
// nobody from entering or leaving the project. A store is safe for concurrent use.
type store struct {
	dir *lockstate.Dir
	log *slog.Logger
	// onChange is called, without a lock, after each change of what is known or cannot be written.
	onChange func()

	writing   chan struct{} // held by whoever writes
	pendingCh chan struct{} // a change is to be written

	mu      sync.Mutex // guards the fields below; never held while a file is read or written
	known   lockstate.State
	pending []pendingChange
	trouble error  // why the last attempt to write failed; nil after one that did not
	line    uint64 // of the state as it was in the file last: a file with a smaller one is an older copy
	// files is how the files were when they were last read; what has been written since differs from it.
	files lockstate.Fingerprint
}

type pendingChange struct {
	change change
	bump   bool
}

// retryWrite is how often it is tried again to write what could not be written.
const retryWrite = time.Second

func newStore(dir *lockstate.Dir, log *slog.Logger, onChange func()) *store {
	return &store{dir: dir, log: log, onChange: onChange, writing: make(chan struct{}, 1), pendingCh: make(chan struct{}, 1)}
}

// state is what is known, with every change that is still to be written.
func (st *store) state() lockstate.State {
	st.mu.Lock()
	defer st.mu.Unlock()
	return clone(st.known)
}

func clone(s lockstate.State) lockstate.State {
	s.Leases = slices.Clone(s.Leases)
	if s.Supervisor != nil {
		copied := *s.Supervisor
		s.Supervisor = &copied
	}
	return s
}

// set replaces what is known, as when the state has just been read.
func (st *store) set(s lockstate.State) {
	st.mu.Lock()
	st.known = clone(s)
	st.mu.Unlock()
	st.onChange()
}

// isBehind reports whether the state file is out of reach, and why: what is known may be nowhere else.
func (st *store) isBehind() (error, bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.trouble, st.trouble != nil
}

// count makes a change that is written at the next sync: whoever makes it waits for no file.
func (st *store) count(change change) {
	st.mu.Lock()
	known := clone(st.known)
	change(&known)
	st.known = known
	st.pending = append(st.pending, pendingChange{change, false})
	st.mu.Unlock()
	wait.Notify(st.pendingCh)
	st.onChange()
}

// record makes a change, tells prompts if bump is set, and writes it if that can be done before ctx ends.
func (st *store) record(ctx context.Context, change change, bump bool) {
	st.mu.Lock()
	known := clone(st.known)
	change(&known)
	st.known = known
	st.pending = append(st.pending, pendingChange{change, bump})
	st.mu.Unlock()
	wait.Notify(st.pendingCh)
	st.onChange()
	_ = st.sync(ctx) // run tries again
}

// refresh is sync, but reads nothing where the files are those that were read last, nothing is to be written and no process that
// holds a lease has ended: what reads and writes JSON stays out of the memory of a supervisor at rest (0.8 MB).
func (st *store) refresh(ctx context.Context) error {
	files := st.dir.Fingerprint()
	st.mu.Lock()
	known, isCurrent := clone(st.known), files == st.files && len(st.pending) == 0 && st.trouble == nil
	st.mu.Unlock()
	leases := len(known.Leases)
	if known.Prune(); isCurrent && len(known.Leases) == leases {
		return nil
	}
	return st.sync(ctx)
}

// sync writes what is to be written, and reads what others have written. After an error what is known stays known.
func (st *store) sync(ctx context.Context) error {
	select {
	case st.writing <- struct{}{}:
		defer func() { <-st.writing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	st.mu.Lock()
	pending := slices.Clone(st.pending)
	st.mu.Unlock()
	files := st.dir.Fingerprint() // before they are read: a change meanwhile is seen by the next refresh
	state, err := st.dir.Update(ctx, func(tx *lockstate.Tx) error {
		st.restoreLost(tx)
		for _, p := range pending {
			p.change(&tx.State)
			if p.bump {
				tx.Bump()
			}
		}
		tx.Prune()
		return nil
	})
	st.finish(state, files, err, len(pending))
	return err
}

// apply makes the changes that are not written yet in a state that is about to be.
func (st *store) apply(state *lockstate.State) {
	st.mu.Lock()
	pending := slices.Clone(st.pending)
	st.mu.Unlock()
	for _, p := range pending {
		p.change(state)
	}
}

// finish takes over how writing went.
func (st *store) finish(state lockstate.State, files lockstate.Fingerprint, err error, written int) {
	st.mu.Lock()
	before := st.trouble
	st.trouble = err
	unwritten := errors.As(err, new(*lockstate.WriteError))
	if err == nil {
		st.pending = slices.Delete(st.pending, 0, written)
		st.line, st.files = state.Line, files
	}
	if err == nil || unwritten && state.ID != "" && state.Config != "" {
		state = clone(state)
		for _, p := range st.pending {
			p.change(&state) // what came meanwhile
		}
		st.known = state
	}
	st.mu.Unlock()
	switch {
	case err != nil && (before == nil || before.Error() != err.Error()):
		st.log.Warn("cannot write the state; it is tried again", "error", err)
	case err == nil && before != nil:
		st.log.Info("the state is written again")
	}
	st.onChange()
}

// run writes what could not be written, as soon as it can be, until ctx or ended does.
func (st *store) run(ctx context.Context, ended <-chan struct{}) {
	var retry <-chan time.Time // nil while nothing is to be written: a supervisor at rest is not woken
	for {
		select {
		case <-ctx.Done():
			return
		case <-ended:
			return
		case <-st.pendingCh:
			if retry == nil {
				retry = time.After(retryWrite)
			}
		case <-retry:
			if retry = nil; !st.isPending() {
				continue
			}
			limited, cancel := context.WithTimeout(ctx, retryWrite)
			_ = st.sync(limited)
			cancel()
			if st.isPending() {
				wait.Notify(st.pendingCh)
			}
		}
	}
}

// isPending reports whether something is to be written.
func (st *store) isPending() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return len(st.pending) > 0
}

// restoreLost writes what is known into a state that was lost and begun anew, or replaced by an older copy of itself.
func (st *store) restoreLost(tx *lockstate.Tx) {
	st.mu.Lock()
	known, line := clone(st.known), st.line
	st.mu.Unlock()
	if known.ID == "" || tx.ID == known.ID && tx.Line >= line {
		return
	}
	tx.Line = max(tx.Line, line) // a number that prompts have seen would hide a change
	for _, lease := range known.Leases {
		tx.Hold(lease)
	}
	if other := tx.Supervisor; other != nil && other.Alive() && other.Process != lockstate.Self() {
		tx.Bump() // another supervisor was elected on the new state, and its record stays: the leases are its own from now on
		return
	}
	tx.Supervisor, tx.Ports = known.Supervisor, known.Ports
	tx.Stopped, tx.Started, tx.Only = known.Stopped, known.Started, known.Only
	tx.Bump()
}

// lockLimit bounds a write that somebody waits for: less than a prompt waits for us.
const lockLimit = time.Second

// save makes a change and tries for a moment to write it. Once the ports are being given up, the state is a successor's; it is
// another's, too, once that has been elected.
func (s *Supervisor) save(change change, bump bool) {
	if s.closing.Load() || s.isSuperseded.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lockLimit)
	defer cancel()
	s.store.record(ctx, change, bump)
}
