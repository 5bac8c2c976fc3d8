// Package uninstall finds what localport keeps on disk, outside of projects, and removes it. It never removes a project's files or the user's own
// settings, and follows no link.
package uninstall

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/localport-sh/localport/cmd/localport/internal/startupfile"
	"github.com/localport-sh/localport/lockstate"
)

// Inventory is what there is of localport.
type Inventory struct {
	State     DiskUsage   // the state and the logs of all projects
	Trust     DiskUsage   // what the user has allowed
	Runtime   []DiskUsage // the directories of sockets
	UserFiles []string    // the user's own config, and the backups of configs: they are not removed
	Dirs      []lockstate.ScannedDir
	Lines     []startupfile.Line
	Scripts   []string // files that localport has printed, in the shells' directories

	footprints []lockstate.OwnedFiles
}

// DiskUsage is what a directory of ours holds.
type DiskUsage struct {
	Path  string
	Bytes int64 // of its files
	Files int
}

// trustName is the directory of what the user has allowed, in lockstate.DataHome.
const trustName = "trust"

// Find looks for everything. An error names what could not be read; the rest is returned with it.
func Find(getenv func(string) string) (Inventory, error) {
	var i Inventory
	state, stateErr := lockstate.StateHome()
	data, dataErr := lockstate.DataHome()
	config, configErr := lockstate.ConfigHome()
	if err := errors.Join(stateErr, dataErr, configErr); err != nil {
		return i, err
	}
	footprints, err := lockstate.FindOwnedFiles()
	if err != nil {
		return i, err
	}
	i.footprints = footprints
	i.State, i.Trust = measure(state), measure(filepath.Join(data, trustName))
	for _, f := range footprints[1:] { // the first is the state
		if len(f.Names) > 0 {
			i.Runtime = append(i.Runtime, measure(f.Dir))
		}
	}
	for _, path := range []string{filepath.Join(config, "config.toml"), filepath.Join(data, "backups")} {
		if _, err := os.Lstat(path); err == nil {
			i.UserFiles = append(i.UserFiles, path)
		}
	}
	i.Lines = startupfile.FindLines(startupfile.All(getenv))
	i.Scripts = startupfile.FindScripts(getenv)
	i.Dirs, err = lockstate.ScanDirs()
	return i, err
}

// IsEmpty reports whether nothing is left that RemoveFiles would remove.
func (i Inventory) IsEmpty() bool {
	return i.State.Files == 0 && i.Trust.Files == 0 && len(i.Runtime) == 0 && len(i.Dirs) == 0
}

// HasHookLines reports whether there is something that RemoveHookLines would remove.
func (i Inventory) HasHookLines() bool {
	return len(i.Scripts) > 0 || slices.ContainsFunc(i.Lines, func(l startupfile.Line) bool { return l.IsAlone })
}

// RemoveHookLines removes the scripts, and the lines as startupfile.RemoveLines does.
func (i Inventory) RemoveHookLines() (backups []string, err error) {
	for _, script := range i.Scripts {
		err = errors.Join(err, os.Remove(script))
	}
	backups, linesErr := startupfile.RemoveLines(i.Lines)
	return backups, errors.Join(err, linesErr)
}

// measure counts the files of a directory.
func measure(dir string) DiskUsage {
	usage := DiskUsage{Path: dir}
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil //nolint:nilerr // what cannot be read is not counted
		}
		if info, err := entry.Info(); err == nil {
			usage.Files++
			usage.Bytes += info.Size()
		}
		return nil
	})
	return usage
}

// RemoveFiles removes the state, the approvals and the sockets of projects that have been stopped. It removes as much as it can; the errors name the rest.
func (i Inventory) RemoveFiles() error {
	var errs error
	for _, dir := range i.Dirs {
		errs = errors.Join(errs, dir.RemoveWithLeases())
	}
	errs = errors.Join(errs, removeApprovals(i.Trust.Path))
	footprints, err := lockstate.FindOwnedFiles() // as they are now
	errs = errors.Join(errs, err)
	if errs != nil {
		return errs // a project that still runs needs its sockets
	}
	for _, f := range footprints {
		errs = errors.Join(errs, f.Remove())
	}
	return errs
}

// removeApprovals removes the records of what was allowed, and their directory if nothing else is in it.
func removeApprovals(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !info.IsDir() || !ok || int(stat.Uid) != os.Getuid() {
		return &fs.PathError{Op: "remove", Path: dir, Err: errors.New("it is not a directory of yours")}
	}
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		if !entry.IsDir() && isApproval(entry.Name()) {
			err = errors.Join(err, os.Remove(filepath.Join(dir, entry.Name())))
		}
	}
	_ = os.Remove(dir)
	_ = os.Remove(filepath.Dir(dir))
	return err
}

// isApproval reports whether a file is a record, a copy of what was allowed, a lock, or a temporary file of them: anything but a file of a project.
func isApproval(name string) bool {
	return name != ".localport.toml" && name != ".localport.local.toml" && name != ".env"
}
