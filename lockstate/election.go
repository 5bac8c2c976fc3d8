package lockstate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Election is the lock that a supervisor holds while it runs; the kernel releases it however the process ends. It belongs
// to the open file description, so that a copy of the descriptor in another process keeps it: the next supervisor
// inherits it. (gofrs/flock cannot be used here, because it unlocks when it closes.)
type Election struct {
	path string

	mu   sync.Mutex // guards file
	file *os.File   // nil: resigned or handed over
}

// Elect makes the calling process the project's supervisor, or returns nil if there is one already. Update resigns the election if it has
// to run its function again.
func (tx *Tx) Elect() (*Election, error) {
	path := tx.lock.dir.path(electionName)
	tx.lock.dir.removeOldTemps()
	for {
		file, err := tx.lock.dir.openElection()
		if err != nil {
			return nil, err
		}
		if err = tx.lock.dir.beforeCall(CallFlock, electionName); err == nil {
			err = flockNonblocking(file, unix.LOCK_EX)
		}
		switch {
		case errors.Is(err, unix.EWOULDBLOCK):
			// The holder's file may have been deleted since it was opened here.
			err = checkSameFile(file, path)
			file.Close()
			if err == nil {
				return nil, nil
			}
		case err == nil:
			if err = checkSameFile(file, path); err == nil {
				election := &Election{path: path, file: file}
				tx.elections = append(tx.elections, election)
				tx.HostID = ownHostID()
				return election, nil
			}
			file.Close()
		default:
			file.Close()
		}
		if errors.Is(err, errLockLost) {
			if err := tx.lock.validate(); err != nil {
				return nil, err
			}
			continue
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
}

// Reelect returns old if it is still valid. If the file at the election's path was deleted or replaced, it locks the new
// one; nil means that another process holds that one: there is another supervisor. old stays locked, so that its copies can be
// replaced before it is handed over.
func (tx *Tx) Reelect(old *Election) (*Election, error) {
	isHeld, err := old.IsHeld()
	if err != nil {
		return nil, err
	}
	if isHeld {
		return old, nil
	}
	return tx.Elect()
}

// openElection opens the election file, for reading only where it cannot be written: that is enough to lock it.
func (d *Dir) openElection() (*os.File, error) {
	path := d.path(electionName)
	var file *os.File
	err := d.beforeCall(CallLock, electionName)
	if err == nil {
		file, err = openRegular(path, os.O_RDWR|os.O_CREATE)
	}
	if errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission) {
		if readable, err := openRegular(path, os.O_RDONLY); err == nil {
			return readable, nil
		}
	}
	if err == nil {
		return file, nil
	}
	if _, ok := errors.AsType[*NotRegularError](err); ok {
		return nil, err
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EROFS) {
		return nil, newWriteError(path, err)
	}
	if errors.Is(err, fs.ErrNotExist) { // the directory vanished under the lock
		return nil, errLockLost
	}
	return nil, fmt.Errorf("open the election lock: %w", err)
}

// flockNonblocking locks an open file, or returns EWOULDBLOCK if another process has locked it.
func flockNonblocking(file *os.File, how int) error {
	for {
		err := unix.Flock(int(file.Fd()), how|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// checkSameFile returns errLockLost unless the open file is the one at path.
func checkSameFile(file *os.File, path string) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	return checkSamePath(info, path)
}

// IsSupervisorRunning reports whether a supervisor is running: whether its election lock is held. It is called under the file lock, like
// every election, so that it never makes a candidate lose. If it cannot tell, it returns false, and
// Update returns the reason and writes nothing.
func (tx *Tx) IsSupervisorRunning() bool {
	var file *os.File
	err := tx.lock.dir.beforeCall(CallOpen, electionName)
	if err == nil {
		file, err = openRegular(tx.lock.dir.path(electionName), os.O_RDONLY)
	}
	if isAbsent(err) {
		return false
	}
	if err != nil {
		tx.fail(fmt.Errorf("check whether a supervisor is running: %w", err))
		return false
	}
	defer file.Close()
	err = flockNonblocking(file, unix.LOCK_SH)
	if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
		tx.fail(fmt.Errorf("check whether a supervisor is running: lock %s: %w", file.Name(), err))
	}
	return errors.Is(err, unix.EWOULDBLOCK)
}

// takeoverTime is how long a supervisor that takes over may take to be elected.
const takeoverTime = 20 * time.Second

// IsTakeoverAwaited reports whether a supervisor may still be starting that takes over. A time that is further away was written before the clock
// was set back.
func (s State) IsTakeoverAwaited() bool {
	left := time.Until(s.TakeoverUntil)
	return left > 0 && left <= takeoverTime
}

// DropElection removes the election file, so that a supervisor which starts now is elected. The supervisor that has locked it notices that, and
// hands over to the elected one, or locks the new file if none is elected within takeoverTime.
func (tx *Tx) DropElection() error {
	if err := tx.lock.validate(); err != nil {
		return err
	}
	if err := os.Remove(tx.lock.dir.path(electionName)); err != nil && !isAbsent(err) {
		return err
	}
	tx.TakeoverUntil = time.Now().Add(takeoverTime).UTC()
	return nil
}

// Inherit returns an election that another process won and handed over.
func (d *Dir) Inherit(file *os.File) *Election {
	return &Election{path: d.path(electionName), file: file}
}

// IsHeld reports whether the locked file is still the one at the election's path. If it is not, the next process that
// asks finds nobody elected: see Reelect. It takes no lock.
func (e *Election) IsHeld() (bool, error) {
	info, err := e.stat()
	if info == nil {
		return false, err
	}
	err = checkSamePath(info, e.path) // without e.mu: the file system may hang
	if errors.Is(err, errLockLost) {
		return false, nil
	}
	return err == nil, err
}

// stat returns the info of the lock's open file; nil if it is closed.
func (e *Election) stat() (fs.FileInfo, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.file == nil {
		return nil, nil
	}
	return e.file.Stat()
}

// IsResigned reports whether the lock was released or handed over. After an Update that failed, that of a run that could not be repeated is.
func (e *Election) IsResigned() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.file == nil
}

// CopyFiles returns a copy of the lock's open file to pass to another process. The caller closes it.
func (e *Election) CopyFiles() ([]*os.File, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.file == nil {
		return nil, fmt.Errorf("copy the election lock: %w", fs.ErrClosed)
	}
	copied, err := unix.FcntlInt(e.file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("copy the election lock: %w", err)
	}
	return []*os.File{os.NewFile(uintptr(copied), e.path)}, nil
}

// Resign releases the lock, even if other processes have copies of it. It may be called more than once.
func (e *Election) Resign() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.file == nil {
		return nil
	}
	err := unix.Flock(int(e.file.Fd()), unix.LOCK_UN)
	e.file.Close()
	e.file = nil
	if err != nil {
		return fmt.Errorf("unlock %s: %w", e.path, err)
	}
	return nil
}

// Handover closes the lock's file without releasing the lock: another process has a copy, and is now the supervisor.
func (e *Election) Handover() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.file == nil {
		return nil
	}
	err := e.file.Close()
	e.file = nil
	return err
}
