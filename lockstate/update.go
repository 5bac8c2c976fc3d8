package lockstate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/localport-sh/localport/forwarder/wait"
)

// Tx is one change of the state, made while the file lock is held.
type Tx struct {
	State
	Warning string // not empty if the state file was unusable: says why, and where it is moved

	lock              *fileLock
	isBumped          bool
	isFinal           bool
	isStored          bool     // the state file existed and was usable
	wasDown           bool     // State.Down as read
	isDownFileCurrent bool     // the down file says the same
	fallbacks         []string // files that hold what could not be written to the state file
	elections         []*Election
	err               error // the first error of IsSupervisorRunning
}

// Update runs fn under the project's file lock and writes the state as fn has changed it. An error of fn is returned unchanged, and nothing
// is written. Update waits for the lock until ctx ends; the error is then a *LockedError.
//
// fn is run again, on the state as it is then, if the lock file, the state file or the whole directory was deleted or
// replaced meanwhile. It must therefore, in each run, set every variable that its caller uses afterwards.
//
// If fn succeeded but the state cannot be written, the error is a *WriteError and the State is the changed one; elections that fn won are
// held. A state that cannot be read is an error, and is not replaced.
func (d *Dir) Update(ctx context.Context, fn func(*Tx) error) (State, error) {
	backoff := lockBackoff
	for {
		l, err := d.acquireLock(ctx, &backoff)
		if err != nil {
			return d.ReadOrZero(), err
		}
		st, err := d.updateLocked(l, fn)
		if !errors.Is(err, errLockLost) {
			return st, err
		}
		if !wait.Sleep(ctx, backoff.Next()) {
			return st, d.lockedError(ctx)
		}
	}
}

// updateLocked is one run of an Update. With errLockLost everything that the run did is undone.
func (d *Dir) updateLocked(l *fileLock, fn func(*Tx) error) (State, error) {
	defer l.release()
	tx, err := l.loadState()
	if err != nil {
		return State{}, err
	}
	before, err := json.Marshal(tx.State)
	if err != nil {
		return tx.State, err
	}
	hasReturned := false
	defer func() {
		if !hasReturned { // it panicked: nobody gets the elections that fn won
			tx.resignElections()
		}
	}()
	st, err := tx.apply(before, fn)
	hasReturned = true
	return st, err
}

// apply calls fn and writes what it has changed since before.
func (tx *Tx) apply(before []byte, fn func(*Tx) error) (State, error) {
	err := fn(tx)
	if err == nil {
		err = tx.err
	}
	if err != nil {
		if tx.Warning != "" && tx.lock.replaceState(before, true) == nil {
			tx.lock.dir.warn(tx.Warning)
		}
		if errors.Is(err, errLockLost) {
			tx.resignElections()
		}
		return tx.State, err
	}
	err = tx.write(before)
	if errors.Is(err, errLockLost) {
		tx.resignElections()
		return tx.State, err
	}
	return tx.State, err
}

// write stores the state if it changed, and then the line that tells prompts so.
func (tx *Tx) write(before []byte) error {
	if tx.isBumped {
		tx.Line++
	}
	after, err := json.Marshal(tx.State)
	if err != nil {
		return err
	}
	isChanged := string(after) != string(before) || tx.Warning != ""
	if isChanged || len(tx.elections) > 0 {
		if err := tx.lock.validate(); err != nil {
			return err
		}
	}
	if isChanged {
		tx.DownFile = tx.isDownFileCurrent && tx.Down == tx.wasDown || tx.lock.dir.writeDownFile(tx.Down)
		if after, err = json.Marshal(tx.State); err != nil {
			return err
		}
		if err := tx.lock.replaceState(after, tx.Warning != ""); err != nil {
			if writeErr, ok := errors.AsType[*WriteError](err); ok && tx.isFinal {
				writeErr.Fallback, _ = tx.lock.dir.writeFallback(tx.State)
			}
			return err
		}
		tx.isStored = true
		removeFiles(tx.fallbacks)
		if tx.Warning != "" {
			tx.lock.dir.warn(tx.Warning)
		}
	}
	// If the lock was lost, the next holder writes the line, because it finds that the line's number is too low.
	if tx.isStored && tx.lock.validate() == nil {
		tx.lock.dir.updateLine(tx.State, tx.isBumped)
	}
	return nil
}

// resignElections resigns the elections of a run that is repeated.
func (tx *Tx) resignElections() {
	for _, election := range tx.elections {
		_ = election.Resign()
	}
}

func (tx *Tx) fail(err error) {
	if tx.err == nil {
		tx.err = err
	}
}

func (d *Dir) warn(text string) {
	if d.Warn != nil {
		d.Warn(text)
	}
}

// loadState reads the state, or makes a new one. A truncated, empty or foreign file is kept under another name when it is replaced.
func (l *fileLock) loadState() (*Tx, error) {
	tx := &Tx{lock: l}
	if _, err := bootID(); err != nil {
		return nil, err
	}
	if l.stateFile == nil {
		tx.State = l.dir.newState()
		return tx, nil
	}
	path := l.dir.path(stateName)
	if err := l.dir.beforeCall(CallRead, stateName); err != nil {
		return nil, readError(path, err)
	}
	data, err := readAll(l.stateFile)
	if err != nil {
		return nil, readError(path, err)
	}
	tx.State, err = parseState(data, l.dir.Config)
	if err != nil {
		tx.State = l.dir.newState()
		tx.Line = max(tx.Line, uint64(time.Now().Unix()))
		tx.DownFile = true // only another version, or a crash of the machine, leaves an unusable state
		tx.Warning = fmt.Sprintf("state file %s is unusable (%v); moved it to %s and created a new one", path, err, l.dir.unusablePath())
	} else {
		tx.isStored = true
		if tx.fallbacks, err = l.dir.applyFallback(&tx.State); err != nil {
			return nil, err
		}
		if number, ok := l.dir.lineNumber(); ok && number > tx.Line { // it is written after the state
			tx.Line, tx.IsOlderCopy = number, true
		}
	}
	if tx.isDownFileCurrent, err = l.dir.applyDownFile(&tx.State); err != nil {
		return nil, err
	}
	tx.wasDown = tx.Down
	return tx, nil
}

// newState continues the numbers of an existing prompt line, because a repeated number could hide a change.
func (d *Dir) newState() State {
	st := newState(d.Config)
	if number, ok := d.lineNumber(); ok {
		st.Line = max(number, uint64(time.Now().Unix()))
	}
	return st
}

// Bump changes the prompt's line, so that every shell in the project runs export at its next prompt.
func (tx *Tx) Bump() { tx.isBumped = true }

// BumpedLine returns the number that the prompts' line has after the Update, if Bump was called; else 0.
func (tx *Tx) BumpedLine() uint64 {
	if !tx.isBumped {
		return 0
	}
	return tx.Line + 1
}

// MarkFinal marks a change that nobody would repeat, such as that of a supervisor that ends. If the disk has no space for a new state file,
// the old one is overwritten: a process that reads it without the lock at that moment may see a part of each. If that fails too, the state
// is written to the runtime directory, from where the next Update takes it: see WriteError.Fallback. Such a change must also call Bump.
func (tx *Tx) MarkFinal() { tx.isFinal, tx.lock.mayOverwrite = true, true }
