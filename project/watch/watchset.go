package watch

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/fsnotify/fsnotify"
)

// watchSet is the directories whose events come, and the names in them that matter. A source that has been set up is never
// changed, but replaced by another: fsnotify mistakes a directory for the one that had its name before.
type watchSet struct {
	source           *eventSource // nil: none yet, or none could be had
	dirs             map[string]fileID
	names            map[string]bool
	unreliableReason string // why events do not tell everything
	isIncomplete     bool   // something could not be watched that may be another time
}

// fileID is the directory that has a path just now.
type fileID struct {
	dev, ino   uint64
	isAncestor bool // no file and no link lies in it
}

// update has events come for every entry on the way to the files, and from no other directory. It returns why events do
// not tell everything, if so, and false if the ways changed all the while.
func (a *watchSet) update(paths []string, s settings) (reason string, steady bool) {
	if a.isIncomplete {
		a.close() // the limit may have been raised
	}
	for range 8 {
		dirs, names := requiredWatches(paths)
		if a.source != nil && maps.Equal(dirs, a.dirs) {
			a.names = names
			return a.unreliableReason, true
		}
		a.close()
		if err := a.open(dirs, s); err != nil {
			return describeWatchError(err), true
		}
	}
	return a.unreliableReason, false
}

// requiredWatches is the directories in which the ways to the files are decided, and the names there.
func requiredWatches(paths []string) (dirs map[string]fileID, names map[string]bool) {
	dirs, names = map[string]fileID{}, map[string]bool{}
	for _, path := range paths {
		for _, e := range walkPath(path) {
			if e.isAncestor && !watchAncestors {
				continue
			}
			known, ok := dirs[e.dir]
			if !ok {
				known = identify(e.dir)
			}
			known.isAncestor = e.isAncestor && (known.isAncestor || !ok)
			dirs[e.dir], names[e.name] = known, true
		}
	}
	return dirs, names
}

// identify is zero for a directory that is gone by now.
func identify(dir string) fileID {
	info, err := os.Stat(dir)
	if err != nil {
		return fileID{}
	}
	stat := info.Sys().(*syscall.Stat_t)
	return fileID{dev: uint64(stat.Dev), ino: stat.Ino}
}

func (a *watchSet) open(dirs map[string]fileID, s settings) error {
	source, err := s.newSource()
	if err != nil {
		return err
	}
	a.source, a.dirs = source, dirs
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		a.add(dir, s)
	}
	return nil
}

// add watches one directory. A passage that cannot be watched is left to the slow look.
func (a *watchSet) add(dir string, s settings) {
	err := s.addDir(a.source.Watcher, dir)
	gone := errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
	switch {
	case gone: // what is needed has changed, also where it looks the same again: numbers of inodes are used anew
		delete(a.dirs, dir)
	case a.dirs[dir].isAncestor: // what is needed does not depend on it
	case err != nil:
		a.unreliableReason, a.isIncomplete = fmt.Sprintf("watch %s: %s", dir, describeWatchError(err)), true
	case a.unreliableReason == "":
		if kind := s.unreliableFilesystem(dir); kind != "" {
			a.unreliableReason = fmt.Sprintf("%s is on %s, which does not report changes made by other machines", dir, kind)
		}
	}
}

// isRelevant reports whether an event may matter. The name alone decides: a directory that has two paths, as with a bind
// mount, tells of its files by either.
func (a *watchSet) isRelevant(event fsnotify.Event) bool {
	if _, watched := a.dirs[event.Name]; watched {
		if event.Has(fsnotify.Remove) || event.Has(fsnotify.Rename) {
			a.close() // it is watched no more, and may be back before anyone looks
		}
		return true
	}
	return a.names[filepath.Base(event.Name)]
}

func (a *watchSet) eventsCh() <-chan fsnotify.Event {
	if a.source == nil {
		return nil
	}
	return a.source.Events
}

func (a *watchSet) lostCh() <-chan struct{} {
	if a.source == nil {
		return nil
	}
	return a.source.lostCh
}

func (a *watchSet) close() {
	if a.source != nil {
		a.source.close()
	}
	*a = watchSet{}
}
