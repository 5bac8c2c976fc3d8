package lockstate

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// runLockName is the file in a run directory that the supervisor keeps locked while it is alive.
const runLockName = "lock"

// RunDir is the directory for the private sockets of one supervisor's tunnels, named after the supervisor's run. Its lock tells
// RemoveAbandonedRunDirs that the supervisor is alive. It is not safe for concurrent use.
type RunDir struct {
	Path string
	lock *os.File
}

// CreateRunDir creates the directory in the current runtime directory. The caller removes it.
func CreateRunDir(run string) (RunDir, error) {
	dir, err := RuntimeDir()
	if err != nil {
		return RunDir{}, err
	}
	d := RunDir{Path: filepath.Join(dir, run)}
	if err := os.Mkdir(d.Path, 0o700); err != nil {
		return RunDir{}, err
	}
	// The lock file gets its name only once it is locked: until then RemoveAbandonedRunDirs ignores the directory.
	path := filepath.Join(d.Path, runLockName)
	if d.lock, err = os.OpenFile(path+".new", os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600); err == nil {
		// On a file system without locks it never gets it.
		if flockNonblocking(d.lock, unix.LOCK_EX) == nil {
			err = os.Rename(d.lock.Name(), path)
		}
	}
	if err != nil {
		return RunDir{}, errors.Join(err, d.Remove())
	}
	return d, nil
}

// Remove removes the directory with its contents, and releases its lock.
func (d RunDir) Remove() error {
	defer closeFile(d.lock)
	return os.RemoveAll(d.Path)
}

// Release releases the lock of a directory that was deleted.
func (d RunDir) Release() { closeFile(d.lock) }

// RemoveRunDir removes what the supervisor of a run left in the current runtime directory. A run that is not the name of a directory in
// it is ignored: it was read from a file.
func RemoveRunDir(run string) error {
	dir, err := RuntimeDir()
	if err != nil || run == "" || run == "." || run == ".." || filepath.Base(run) != run {
		return err
	}
	return os.RemoveAll(filepath.Join(dir, run))
}

// RemoveAbandonedRunDirs removes the run directories of supervisors that were killed, of any project of this user. Before that it
// calls onFound with the run. Directories without a lock file, as version 1.0.0 made them, are left alone.
func RemoveAbandonedRunDirs(onFound func(run string)) error {
	return visitAbandonedRunDirs(func(dir string) error {
		onFound(filepath.Base(dir))
		return os.RemoveAll(dir)
	})
}

// ListAbandonedRunDirs returns the paths of the directories that RemoveAbandonedRunDirs would remove now.
func ListAbandonedRunDirs() (dirs []string) {
	_ = visitAbandonedRunDirs(func(dir string) error {
		dirs = append(dirs, dir)
		return nil
	})
	return dirs
}

func visitAbandonedRunDirs(visit func(dir string) error) error {
	var errs error
	for _, dir := range runtimeDirs() {
		entries, err := os.ReadDir(dir)
		if err != nil && !isAbsent(err) {
			errs = errors.Join(errs, err)
		}
		for _, entry := range entries {
			if entry.IsDir() {
				errs = errors.Join(errs, visitIfAbandoned(filepath.Join(dir, entry.Name()), visit))
			}
		}
	}
	return errs
}

// visitIfAbandoned calls visit with a run directory, and its lock, unless that is held by another.
func visitIfAbandoned(dir string, visit func(dir string) error) error {
	info, err := os.Lstat(filepath.Dir(dir))
	if err != nil || !isOwnDirectory(info) || info.Mode().Perm()&0o077 != 0 {
		return nil //nolint:nilerr // it is not ours
	}
	path := filepath.Join(dir, runLockName)
	file, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if isAbsent(err) || errors.Is(err, unix.ELOOP) {
		return nil // it is not a run directory, or it was removed meanwhile
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if flockNonblocking(file, unix.LOCK_EX) != nil || checkSameFile(file, path) != nil {
		return nil // the supervisor lives, and may just have created its directory again
	}
	return visit(dir)
}
