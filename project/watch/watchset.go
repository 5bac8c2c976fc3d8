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

// watchSet is the watched directories, and the relevant names in them. The directories of a source are never
// changed; a new source replaces it, because fsnotify mistakes a directory for the one that had its path before.
type watchSet struct {
	source           *eventSource // nil: none yet, or none could be opened
	dirs             map[string]fileID
	names            map[string]bool
	unreliableReason string // why some changes have no event; empty: all have
	isIncomplete     bool   // a directory could not be watched; the next update retries
}

// fileID identifies the directory at a path.
type fileID struct {
	dev, ino   uint64
	isAncestor bool // it holds only directories of the paths, no file and no link
}

// update watches exactly the directories that decide what the paths resolve to. reason says why some changes have no event; empty: all
// have. isStable is false if the directories kept changing meanwhile.
func (w *watchSet) update(paths []string, s settings) (reason string, isStable bool) {
	if w.isIncomplete {
		w.close() // the limit may have been raised
	}
	for range 8 {
		dirs, names := requiredWatches(paths)
		if w.source != nil && maps.Equal(dirs, w.dirs) {
			w.names = names
			return w.unreliableReason, true
		}
		w.close()
		if err := w.open(dirs, s); err != nil {
			return describeWatchError(err), true
		}
	}
	return w.unreliableReason, false
}

// requiredWatches returns the directories that decide what the paths resolve to, and the names in them.
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

// identify returns the zero fileID for a directory that no longer exists.
func identify(dir string) fileID {
	info, err := os.Stat(dir)
	if err != nil {
		return fileID{}
	}
	stat := info.Sys().(*syscall.Stat_t)
	return fileID{dev: uint64(stat.Dev), ino: stat.Ino}
}

func (w *watchSet) open(dirs map[string]fileID, s settings) error {
	source, err := s.newSource()
	if err != nil {
		return err
	}
	w.source, w.dirs = source, dirs
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		w.add(dir, s)
	}
	return nil
}

// add watches one directory. Changes of an ancestor that cannot be watched are found by the rescan.
func (w *watchSet) add(dir string, s settings) {
	err := s.addDir(w.source.Watcher, dir)
	isGone := errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
	switch {
	case isGone: // the required directories have changed, even if they look the same again: inode numbers are reused
		delete(w.dirs, dir)
	case w.dirs[dir].isAncestor: // optional
	case err != nil:
		w.unreliableReason, w.isIncomplete = fmt.Sprintf("watch %s: %s", dir, describeWatchError(err)), true
	case w.unreliableReason == "":
		if kind := s.unreliableFilesystem(dir); kind != "" {
			w.unreliableReason = fmt.Sprintf("%s is on %s, which does not report changes made by other machines", dir, kind)
		}
	}
}

// isRelevant reports whether an event may concern the files. The name alone decides: a directory that has two paths, as with a bind
// mount, reports events under either.
func (w *watchSet) isRelevant(event fsnotify.Event) bool {
	if _, isWatched := w.dirs[event.Name]; isWatched {
		if event.Has(fsnotify.Remove) || event.Has(fsnotify.Rename) {
			w.close() // it is no longer watched, and may exist again before the next update
		}
		return true
	}
	return w.names[filepath.Base(event.Name)]
}

func (w *watchSet) eventsCh() <-chan fsnotify.Event {
	if w.source == nil {
		return nil
	}
	return w.source.Events
}

func (w *watchSet) lostCh() <-chan struct{} {
	if w.source == nil {
		return nil
	}
	return w.source.lostCh
}

func (w *watchSet) close() {
	if w.source != nil {
		w.source.close()
	}
	*w = watchSet{}
}
