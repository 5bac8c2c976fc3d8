package lockstate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// DirKind says what a state directory is good for now.
type DirKind int

// The kinds of state directories.
const (
	DirUsed     DirKind = iota // a process holds it: a supervisor, a keeper, a lease, or whoever has its lock
	DirIdle                    // nothing holds it, and the project exists
	DirOrphaned                // nothing holds it, and the project's config does not exist
	DirUnused                  // nothing holds it, and nothing was ever recorded in it: a command has only read its state
	DirUnknown                 // nothing holds it, and whether the project exists cannot be told from here and now
	DirDamaged                 // nothing holds it, and it has no usable state: the project is not known
)

func (k DirKind) String() string {
	return [...]string{"used", "idle", "orphaned", "unused", "unknown", "damaged"}[k]
}

// ScannedDir is a state directory as ScanDirs found it.
type ScannedDir struct {
	*Dir // its Config is empty if the kind is DirDamaged or DirUnused
	Kind DirKind
	// Reason says in a few words why the directory has this kind: what holds it, or what cannot be told.
	Reason string
	// LastUsed is when the newest file of the directory was written, logs included.
	LastUsed time.Time
}

// ScanDirs returns the state directories of all projects of this user, by kind. It takes the lock of each for a moment, waits for no process,
// and asks the file system of each project whether the config exists: that may hang where a network file system does. An error names what could not
// be read; the other directories are returned with it.
func ScanDirs() ([]ScannedDir, error) {
	paths, err := dirPaths()
	var dirs []ScannedDir
	for _, path := range paths {
		dir, scanErr := scanDir(path)
		if isAbsent(scanErr) { // it was removed meanwhile
			continue
		}
		if scanErr != nil {
			err = errors.Join(err, scanErr)
			continue
		}
		dirs = append(dirs, dir)
	}
	return dirs, err
}

// dirPaths returns the paths of all state directories. Links, and directories of other users, are left out.
func dirPaths() ([]string, error) {
	home, err := StateHome()
	if err != nil {
		return nil, err
	}
	projects := filepath.Join(home, projectsName)
	entries, err := os.ReadDir(projects)
	if err != nil && !isAbsent(err) {
		return nil, err
	}
	var paths []string
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && isOwnDirectory(info) && !isRemovedName(entry.Name()) {
			paths = append(paths, filepath.Join(projects, entry.Name()))
		}
	}
	return paths, nil
}

func scanDir(path string) (ScannedDir, error) {
	s := ScannedDir{Dir: &Dir{Path: path, mustExist: true}, LastUsed: lastWritten(path)}
	var st State
	data, err := readFile(filepath.Join(path, stateName))
	notRegular := errors.As(err, new(*NotRegularError))
	switch {
	case err != nil && !isAbsent(err) && !notRegular:
		return s, readError(filepath.Join(path, stateName), err)
	case err == nil && decodeState(data, &st) == nil && stateKey(st.Config) == filepath.Base(path):
		s.Config = st.Config
	}
	var holderErr error
	if s.Reason, holderErr = s.holder(); holderErr != nil || s.Reason != "" {
		return s, holderErr
	}
	if s.Config == "" && isAbsent(err) && isUnused(path) {
		s.Kind, s.Reason = DirUnused, "nothing has been recorded in it"
		return s, nil
	}
	if s.Config == "" {
		s.Kind, s.Reason = DirDamaged, "it has no usable state file"
		return s, nil
	}
	s.Kind, s.Reason = s.projectKind(st.HostID)
	return s, nil
}

// isUnused reports whether a state directory has only what Open makes, for a command that has recorded nothing: its lock, and no logs. A
// record of PruneDirs may have been added.
func isUnused(path string) bool {
	entries, err := os.ReadDir(path)
	if err != nil {
		return false
	}
	logs, err := os.ReadDir(filepath.Join(path, "log"))
	return (err == nil || isAbsent(err)) && len(logs) == 0 && !slices.ContainsFunc(entries, func(entry os.DirEntry) bool {
		return !slices.Contains([]string{lockName, observationsName, "log"}, entry.Name())
	})
}

// lastWritten returns the time of the newest file in a state directory and its logs, without the record of PruneDirs.
func lastWritten(path string) time.Time {
	var newest time.Time
	for _, dir := range []string{path, filepath.Join(path, "log")} {
		entries, _ := os.ReadDir(dir)
		for _, entry := range entries {
			info, err := entry.Info()
			if err == nil && entry.Name() != observationsName && !info.IsDir() && info.ModTime().After(newest) {
				newest = info.ModTime()
			}
		}
	}
	return newest
}

// holder says in a few words what holds the directory; it is empty if nothing does.
func (d *Dir) holder() (string, error) {
	l, err := d.tryAcquireLock()
	if errors.As(err, new(*NotRegularError)) {
		return "", nil // nobody has locked it
	}
	if err != nil {
		return "", err
	}
	if l == nil {
		return "its lock is held", nil
	}
	defer l.release()
	return l.holder(false)
}

// holder is Dir.holder for who has the lock.
func (l *fileLock) holder(ignoresLeases bool) (string, error) {
	tx := &Tx{lock: l}
	if tx.IsSupervisorRunning() {
		return "a supervisor is running", nil
	}
	if tx.err != nil && !errors.As(tx.err, new(*NotRegularError)) {
		return "", tx.err
	}
	st, err := l.dir.Read()
	if l.dir.Config == "" || isAbsent(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	st.PruneLeases()
	switch {
	case len(st.Leases) > 0 && !ignoresLeases:
		return fmt.Sprintf("a process has a lease (%s, pid %d)", st.Leases[0].Kind, st.Leases[0].PID), nil
	case len(st.LiveDraining()) > 0:
		return "a supervisor is closing its last connections", nil
	case st.Supervisor != nil && st.Supervisor.IsAlive():
		return fmt.Sprintf("a supervisor is running (pid %d)", st.Supervisor.PID), nil
	case st.Supervisor != nil && st.Supervisor.Keeper > 0 && unix.Kill(st.Supervisor.Keeper, 0) == nil:
		return fmt.Sprintf("a keeper is running (pid %d)", st.Supervisor.Keeper), nil
	}
	return "", nil
}
