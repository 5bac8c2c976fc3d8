package lockstate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder/wait"
)

// errLockLost says that the lock file, or the state file, is no longer the one that was locked: it was deleted or
// replaced. Another process may have taken the same decision under the new one.
var errLockLost = errors.New("the locked file was deleted or replaced")

// fileLock is the held lock of a state directory. It consists of two files: the lock file, and the state file as it was
// read. Deleting the lock file lets another process lock a new one at once; the lock on the state file keeps that
// process from reading a state that this one is about to replace.
type fileLock struct {
	dir       *Dir
	lock      *flock.Flock
	stateFile *os.File // the locked state file; nil: there is none
	// mayOverwrite: if there is no space for a new state file, the old one is overwritten.
	mayOverwrite bool
}

// lockBackoff is the delay between two attempts to take the lock. It grows, because many waiters that try constantly would slow down the
// holder. A delay is between 1 and 3 ms at first, and later between 25 and 75 ms.
var lockBackoff = wait.Backoff{First: 3 * time.Millisecond, Max: 75 * time.Millisecond, Jitter: 2. / 3}

// acquireLock waits for the lock until ctx ends, and creates a missing state directory.
func (d *Dir) acquireLock(ctx context.Context, backoff *wait.Backoff) (*fileLock, error) {
	for {
		l, err := d.tryAcquireLock()
		if l != nil || err != nil {
			return l, err
		}
		if !wait.Sleep(ctx, backoff.Next()) {
			return nil, d.lockedError(ctx)
		}
	}
}

func (d *Dir) lockedError(ctx context.Context) error {
	path := d.path(lockName)
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("lock %s: %w", path, ctx.Err())
	}
	locked := &LockedError{Path: path}
	for _, lockedPath := range []string{path, d.path(stateName)} {
		if info, err := os.Stat(lockedPath); err == nil && locked.PID == 0 {
			locked.PID, locked.Program = lockHolder(info)
		}
	}
	return locked
}

// tryAcquireLock returns nil without an error if another process holds the lock, or if the files changed meanwhile.
func (d *Dir) tryAcquireLock() (*fileLock, error) {
	// O_RDONLY, so that a state on a read-only file system can be read; O_NONBLOCK, so that a named pipe does not block.
	lockFile := flock.New(d.path(lockName),
		flock.SetFlag(os.O_RDONLY|os.O_CREATE|unix.O_NONBLOCK|unix.O_NOCTTY), flock.SetPermissions(0o600))
	err := d.beforeCall(CallLock, lockName)
	ok := false
	if err == nil {
		ok, err = lockFile.TryLock()
	}
	if err != nil {
		return nil, d.lockErrorCause(err)
	}
	if !ok {
		return nil, nil
	}
	l := &fileLock{dir: d, lock: lockFile}
	isAcquired := false
	defer func() {
		if !isAcquired {
			l.release()
		}
	}()
	if info, err := lockFile.Stat(); err == nil && !info.Mode().IsRegular() {
		return nil, &NotRegularError{Path: lockFile.Path(), Kind: kindName(info.Mode())}
	}
	ok, err = l.lockStateFile()
	if !ok || err != nil {
		return nil, err
	}
	if err := l.validate(); err != nil {
		if errors.Is(err, errLockLost) {
			return nil, nil
		}
		return nil, err
	}
	isAcquired = true
	return l, nil
}

// lockErrorCause returns the cause of an error of opening or locking the lock file; nil: try again.
func (d *Dir) lockErrorCause(err error) error {
	path := d.path(lockName)
	if kind := kindOf(path); kind != "" {
		return &NotRegularError{Path: path, Kind: kind}
	}
	_, statErr := os.Lstat(path)
	switch {
	case statErr == nil && errors.Is(err, fs.ErrNotExist):
		return nil // created by another process meanwhile
	case statErr == nil:
		return fmt.Errorf("lock %s: %w", path, err)
	}
	if d.mustExist {
		return err
	}
	if dirErr := d.makeDirs(); dirErr != nil {
		return dirErr
	}
	if isAbsent(err) {
		return nil
	}
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM) {
		return fmt.Errorf("lock %s: %w", path, err)
	}
	return newWriteError(path, err)
}

// lockStateFile opens and locks the state file, if there is one. It returns false if another process has locked it.
func (l *fileLock) lockStateFile() (bool, error) {
	path := l.dir.path(stateName)
	if err := l.dir.beforeCall(CallOpen, stateName); err != nil {
		return false, readError(path, err)
	}
	file, err := openRegular(path, os.O_RDONLY)
	if isAbsent(err) {
		return true, nil
	}
	if err != nil {
		return false, readError(path, err)
	}
	l.stateFile = file
	return l.dir.tryFlock(file)
}

// tryFlock takes the exclusive lock of an open state file; false if another process has it. On file systems where a file
// that is open for reading cannot be locked (NFS), the lock file alone protects the state.
func (d *Dir) tryFlock(file *os.File) (bool, error) {
	err := d.beforeCall(CallFlock, stateName)
	if err == nil {
		err = flockNonblocking(file, unix.LOCK_EX)
	}
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return false, nil
	case err == nil, errors.Is(err, unix.EBADF), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOLCK):
		return true, nil
	default:
		return false, fmt.Errorf("lock %s: %w", file.Name(), err)
	}
}

// validate returns errLockLost unless the locked files are those at their paths.
func (l *fileLock) validate() error {
	info, err := l.lock.Stat()
	if err == nil {
		err = l.dir.beforeCall(CallStat, lockName)
	}
	if err != nil {
		return fmt.Errorf("stat the lock %s: %w", l.lock.Path(), err)
	}
	if err := checkSamePath(info, l.lock.Path()); err != nil {
		return err
	}
	path := l.dir.path(stateName)
	if l.stateFile == nil {
		if _, err := os.Stat(path); err == nil {
			return errLockLost
		}
		return nil
	}
	if info, err = l.stateFile.Stat(); err != nil {
		return fmt.Errorf("stat %s: %w", path, err)
	}
	return checkSamePath(info, path)
}

// checkSamePath returns errLockLost unless the file of info is the one at path.
func checkSamePath(info fs.FileInfo, path string) error {
	now, err := os.Stat(path)
	switch {
	case err == nil && os.SameFile(info, now):
		return nil
	case err == nil, isAbsent(err), errors.Is(err, unix.ELOOP):
		return errLockLost
	}
	return fmt.Errorf("stat %s: %w", path, err)
}

// release unlocks the state file before the lock file, so that the next holder of the lock file finds the state file unlocked.
func (l *fileLock) release() {
	closeFile(l.stateFile)
	_ = l.lock.Close()
}
