package lockstate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// HeldError says that a state directory was not removed, because something holds it.
type HeldError struct {
	Path   string
	Reason string
}

func (e *HeldError) Error() string { return fmt.Sprintf("%s is in use: %s", e.Path, e.Reason) }

// Remove removes the directory, and what the project has left in the runtime directories, unless something holds it now: the error is
// a *HeldError then. Links are removed, and not followed. A process that opens the project meanwhile makes a new directory.
func (s SurveyedDir) Remove() error { return s.removeIf(func() bool { return true }) }

// removeIf is Remove if a condition holds while the directory is locked.
func (s SurveyedDir) removeIf(isDue func() bool) error {
	if info, err := os.Lstat(s.Path); isAbsent(err) {
		return nil
	} else if err != nil || !isOwnDirectory(info) {
		return errors.Join(err, fmt.Errorf("%s is not a directory of this user", s.Path))
	}
	l, err := s.tryAcquireLock()
	notRegular := errors.As(err, new(*NotRegularError))
	if err != nil && !notRegular {
		return err
	}
	if l == nil && !notRegular {
		return &HeldError{s.Path, "its lock is held"}
	}
	if l != nil {
		defer l.release()
		if reason, err := l.holder(); err != nil || reason != "" {
			return errors.Join(err, heldError(s.Path, reason))
		}
	}
	if !isDue() {
		return nil
	}
	s.removeRuntimeFiles()
	// Under another name first: a process that comes meanwhile must not find a part of the directory.
	removed := filepath.Join(filepath.Dir(s.Path), removedPrefix+filepath.Base(s.Path))
	if err := os.RemoveAll(removed); err != nil { // of a process that was killed
		return err
	}
	if err := os.Rename(s.Path, removed); err != nil {
		return err
	}
	return os.RemoveAll(removed)
}

func heldError(path, reason string) error {
	if reason == "" {
		return nil
	}
	return &HeldError{path, reason}
}

// removedPrefix is that of the names of directories that are being removed.
const removedPrefix = ".removed-"

func isRemovedName(name string) bool { return strings.HasPrefix(name, removedPrefix) }

// removeRuntimeFiles removes the socket and the fallback file of a project that nothing holds.
func (d *Dir) removeRuntimeFiles() {
	for _, socket := range d.Sockets() {
		for _, path := range []string{socket, fallbackPath(socket)} {
			if info, err := os.Lstat(path); err == nil && info.Mode()&(os.ModeDir|os.ModeSymlink) == 0 {
				_ = os.Remove(path)
			}
		}
	}
}
