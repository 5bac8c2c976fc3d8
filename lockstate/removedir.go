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
func (s ScannedDir) Remove() error { return s.removeIf(false, func() bool { return true }) }

// RemoveWithLeases is Remove also if processes have leases, as shells in a project that the user has stopped.
func (s ScannedDir) RemoveWithLeases() error { return s.removeIf(true, func() bool { return true }) }

// removeIf is Remove if a condition holds while the directory is locked.
func (s ScannedDir) removeIf(ignoresLeases bool, isDue func() bool) error {
	if info, err := os.Lstat(s.Path); isAbsent(err) {
		return nil
	} else if err != nil || !isOwnDirectory(info) {
		return errors.Join(err, fmt.Errorf("%s is not a directory of this user", s.Path))
	}
	l, err := s.tryAcquireLock()
	notRegular := errors.As(err, new(*NotRegularError))
	if isAbsent(err) { // another process has removed it
		return nil
	}
	if err != nil && !notRegular {
		return err
	}
	if l == nil && !notRegular {
		return &HeldError{s.Path, "its lock is held"}
	}
	if l != nil {
		defer l.release()
		if reason, err := l.holder(ignoresLeases); err != nil || reason != "" {
			return errors.Join(err, heldError(s.Path, reason))
		}
	}
	if !isDue() {
		return nil
	}
	if path, err := findConfigBelow(s.Path); err != nil || path != "" {
		return errors.Join(err, configBelowError(path))
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

// findConfigBelow returns a project's config below a directory, which then holds more than state: somebody's work. It is empty if there is none.
func findConfigBelow(dir string) (found string, err error) {
	err = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.Name() == configName {
			found = path
			return filepath.SkipAll
		}
		return err
	})
	return found, err
}

// configName is the name of a project's config.
const configName = ".localport.toml"

func configBelowError(path string) error {
	if path == "" {
		return nil
	}
	return fmt.Errorf("%s is not removed: it is a project's config, and not state", path)
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

// OwnedFiles is what this package has made, for all projects: the entries of a directory that are ours.
type OwnedFiles struct {
	Dir   string
	Names []string
}

// FindOwnedFiles returns what exists of the state and in the runtime directories of this user.
func FindOwnedFiles() ([]OwnedFiles, error) {
	home, err := StateHome()
	if err != nil {
		return nil, err
	}
	footprints := []OwnedFiles{{home, existingFiles(home, projectsName, lastPruneName)}}
	for _, dir := range runtimeDirs() {
		if info, err := os.Lstat(dir); err != nil || !isOwnDirectory(info) || info.Mode().Perm()&0o077 != 0 {
			continue // it is not ours
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		f := OwnedFiles{Dir: dir}
		for _, entry := range entries {
			if isRuntimeFile(dir, entry) {
				f.Names = append(f.Names, entry.Name())
			}
		}
		footprints = append(footprints, f)
	}
	return footprints, nil
}

// isRuntimeFile reports whether an entry of a runtime directory is a project's socket, what could not be written to its state, or a run directory.
func isRuntimeFile(dir string, entry os.DirEntry) bool {
	if entry.IsDir() {
		_, err := os.Lstat(filepath.Join(dir, entry.Name(), runLockName))
		return err == nil
	}
	extension := filepath.Ext(entry.Name())
	return extension == ".sock" || extension == fallbackSuffix
}

func existingFiles(dir string, names ...string) (found []string) {
	for _, name := range names {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			found = append(found, name)
		}
	}
	return found
}

// Remove removes the entries, and the directory if nothing else is in it. Links are removed, and not followed. Of the state directories only those
// are removed that are empty: the others hold projects.
func (f OwnedFiles) Remove() error {
	if info, err := os.Lstat(f.Dir); err != nil || !isOwnDirectory(info) {
		return nil //nolint:nilerr // there is none, or a link to one
	}
	var errs error
	for _, name := range f.Names {
		path := filepath.Join(f.Dir, name)
		if name == projectsName {
			_ = os.Remove(path)
			continue
		}
		errs = errors.Join(errs, os.RemoveAll(path))
	}
	_ = os.Remove(f.Dir)
	return errs
}
