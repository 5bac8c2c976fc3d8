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

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/project/watch/fsevent"
)

// watchSet is the watched directories and files, and the relevant names in the directories. A source gets what is to be watched in addition.
// Another source replaces it when it watches what is not needed any more, and after each removal where a source cannot watch the same path again:
// fsnotify mistakes a directory for the one that had its path before.
type watchSet struct {
	source           eventSource // nil: none yet, or none could be opened
	additions        int         // how often something was added to source
	isAnyGone        bool        // something is no longer watched, and may exist again
	targets          map[string]target
	names            map[string]bool
	unreliableReason string // why some changes have no event; empty: all have
	isIncomplete     bool   // a directory or file could not be watched; the next update retries
}

// eventSource is a *fsevent.Source.
type eventSource interface {
	Add(path string, interest fsevent.Interest) error
	Events() <-chan fsevent.Event
	Lost() <-chan struct{}
	Close()
}

// target is a directory or file that is watched.
type target struct {
	fileID
	interest   fsevent.Interest
	isFile     bool
	isAncestor bool // a directory that holds only directories of the paths, no file and no link
}

// fileID identifies the file or directory at a path.
type fileID struct{ dev, ino uint64 }

// maxAdditions is how often a source gets something in addition. It may still watch files that have been replaced and exist elsewhere. It is not
// replaced each time, because the kernel takes 10 to 20 ms to close an inotify instance.
const maxAdditions = 50

// update watches exactly what decides what the paths resolve to. reason says why some changes have no event; empty: all have. isStable is false if
// the directories kept changing meanwhile.
func (w *watchSet) update(paths []string, s settings) (reason string, isStable bool) {
	if w.isIncomplete {
		w.close() // the limit may have been raised
	}
	for range 8 {
		targets, names := requiredWatches(paths)
		if w.source != nil && !w.isAnyGone && maps.Equal(targets, w.targets) {
			w.names = names
			return w.unreliableReason, true
		}
		if !w.canExtendTo(targets) {
			w.close()
		}
		if err := w.add(targets, s); err != nil {
			return describeWatchError(err), true
		}
	}
	return w.unreliableReason, false
}

// canExtendTo reports whether the source watches nothing that is not needed.
func (w *watchSet) canExtendTo(targets map[string]target) bool {
	if w.source == nil || w.additions >= maxAdditions || !fsevent.WatchesFiles {
		return false
	}
	for path, before := range w.targets {
		now, isNeeded := targets[path]
		if !isNeeded && w.isAnyGone && before.isFile && identify(path) != before.fileID {
			continue // removed
		}
		if !isNeeded || before.isFile != now.isFile || before.interest&^now.interest != 0 {
			return false
		}
	}
	return true
}

// requiredWatches returns the directories and files that decide what the paths resolve to, and the names in the directories.
func requiredWatches(paths []string) (targets map[string]target, names map[string]bool) {
	targets, names = map[string]target{}, map[string]bool{}
	var entries []pathEntry
	isHeld := map[string]bool{} // directories that contain, at any depth, something whose removal is reported: they cannot be removed before
	walker := pathWalker{}
	for _, path := range paths {
		for _, e := range walker.walk(path) {
			if e.isAncestor && !watchAncestors {
				continue
			}
			entries = append(entries, e)
			dir := e.dir
			if e.id == (fileID{}) {
				dir = filepath.Dir(dir)
			}
			for ; !e.isAncestor && !isHeld[dir]; dir = filepath.Dir(dir) {
				isHeld[dir] = true
			}
		}
	}
	for _, e := range entries {
		known, isKnown := targets[e.dir]
		if !isKnown {
			known.fileID = identify(e.dir)
		}
		known.isAncestor = e.isAncestor && (known.isAncestor || !isKnown)
		path := filepath.Join(e.dir, e.name)
		switch {
		case !fsevent.WatchesFiles:
			known.interest = fsevent.Appearance | fsevent.Disappearance | fsevent.Content
		case isWatchedItself(e):
			targets[path] = target{fileID: e.id, isFile: true, interest: fsevent.Content}
		case e.isAncestor && isHeld[path]: // it reports itself that it was renamed
		case e.isAncestor:
			known.interest |= fsevent.Disappearance
		case e.id == fileID{}:
			known.interest |= fsevent.Appearance
		default:
			known.interest |= fsevent.Appearance | fsevent.Disappearance
		}
		targets[e.dir], names[e.name] = known, true
	}
	return targets, names
}

// isWatchedItself reports whether an entry is a file or socket that reports by itself that it was written to, removed, renamed or replaced. To watch it
// takes the permission to read it.
func isWatchedItself(e pathEntry) bool {
	return fsevent.WatchesFiles && e.isFile && unix.Access(filepath.Join(e.dir, e.name), unix.R_OK) == nil
}

// identify returns the zero fileID for a directory that no longer exists.
func identify(dir string) fileID {
	info, err := os.Stat(dir)
	if err != nil {
		return fileID{}
	}
	return idOf(info)
}

func idOf(info fs.FileInfo) fileID {
	stat := info.Sys().(*syscall.Stat_t)
	return fileID{dev: uint64(stat.Dev), ino: stat.Ino}
}

// add watches the targets with the source, or with a new one.
func (w *watchSet) add(targets map[string]target, s settings) error {
	if w.source == nil {
		source, err := s.newSource()
		if err != nil {
			return err
		}
		w.source = source
	}
	w.targets, w.isAnyGone, w.unreliableReason = targets, false, ""
	w.additions++
	for _, path := range slices.Sorted(maps.Keys(targets)) {
		w.addPath(path, s)
	}
	return nil
}

// addPath watches one directory or file. Changes of an ancestor that cannot be watched are found by the rescan.
func (w *watchSet) addPath(path string, s settings) {
	t := w.targets[path]
	err := s.add(w.source, path, t.interest)
	isGone := errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
	switch {
	case isGone: // what is required has changed, even if it looks the same again: inode numbers are reused
		delete(w.targets, path)
	case t.isAncestor: // optional
	case err != nil:
		w.unreliableReason, w.isIncomplete = fmt.Sprintf("watch %s: %s", path, describeWatchError(err)), true
	case w.unreliableReason == "" && !t.isFile:
		if kind := s.unreliableFilesystem(path); kind != "" {
			w.unreliableReason = fmt.Sprintf("%s is on %s, which does not report changes made by other machines", path, kind)
		}
	}
}

// isRelevant reports whether an event may concern the files. The name alone decides: a directory that has two paths, as with a bind
// mount, reports events once for both.
func (w *watchSet) isRelevant(event fsevent.Event) bool {
	w.isAnyGone = w.isAnyGone || event.IsGone
	if event.IsMoved {
		w.close() // or it would go on to report what happens at the other path
	}
	return event.IsGone || event.Name == "" || w.names[event.Name]
}

func (w *watchSet) eventsCh() <-chan fsevent.Event {
	if w.source == nil {
		return nil
	}
	return w.source.Events()
}

func (w *watchSet) lostCh() <-chan struct{} {
	if w.source == nil {
		return nil
	}
	return w.source.Lost()
}

func (w *watchSet) close() {
	if w.source != nil {
		w.source.Close()
	}
	*w = watchSet{}
}
