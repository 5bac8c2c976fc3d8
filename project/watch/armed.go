package watch

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/fsnotify/fsnotify"
)

// armed is the directories whose events come, and the names in them that matter.
type armed struct {
	source *source         // nil: none could be had
	dirs   map[string]bool // watched; value: the way merely passes through it
	names  map[string]bool
}

// cover has events come for every entry on the way to the files, and for no other directory. It returns false if the
// ways changed all the while, and why events do not tell everything, if so.
func (a *armed) cover(paths []string, s settings) (steady bool, reason string) {
	if reason = a.open(s); reason != "" {
		return true, reason
	}
	entries := ways(paths)
	for range 8 {
		reason = a.add(entries, s)
		now := ways(paths)
		if steady = slices.Equal(now, entries); steady {
			break
		}
		entries = now
	}
	return steady, reason
}

func ways(paths []string) []entry {
	var entries []entry
	for _, path := range slices.Sorted(slices.Values(paths)) {
		entries = append(entries, way(path)...)
	}
	return entries
}

// open gets a source if there is none. It is tried again at every look: the limit may have been raised.
func (a *armed) open(s settings) (reason string) {
	if a.source != nil {
		return ""
	}
	source, err := s.source()
	if err != nil {
		return limits(err)
	}
	a.source = source
	return ""
}

// add watches the directories of these entries, those that are watched already again: one may have been replaced by
// another of the same name. Then it lets go of all others.
func (a *armed) add(entries []entry, s settings) (reason string) {
	dirs, names := map[string]bool{}, map[string]bool{}
	for _, e := range entries {
		passage, known := dirs[e.dir]
		if e.passage && !watchPassages && !known {
			continue
		}
		dirs[e.dir] = e.passage && (passage || !known)
		names[e.name] = true
	}
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		if why := a.addOne(dir, dirs[dir], s); why != "" {
			reason = why
		}
	}
	for dir := range a.dirs {
		if _, needed := dirs[dir]; !needed {
			_ = a.source.Remove(dir) // it may be gone already
		}
	}
	a.dirs, a.names = dirs, names
	return reason
}

// addOne returns why events from dir do not tell everything. A passage that cannot be watched is left to the slow look.
func (a *armed) addOne(dir string, passage bool, s settings) (reason string) {
	err := s.add(a.source.Watcher, dir)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), passage:
		return "" // the ways have changed, or do not depend on it
	case err != nil:
		return fmt.Sprintf("watch %s: %s", dir, limits(err))
	}
	if kind := s.silence(dir); kind != "" {
		return fmt.Sprintf("%s is on %s, where changes made elsewhere are not told", dir, kind)
	}
	return ""
}

// concerns reports whether an event may matter. The name alone decides: a directory that has two paths, as with a bind
// mount, tells of its files by either.
func (a *armed) concerns(path string) bool {
	if a.names[filepath.Base(path)] {
		return true
	}
	_, watched := a.dirs[path]
	return watched
}

func (a *armed) events() <-chan fsnotify.Event {
	if a.source == nil {
		return nil
	}
	return a.source.Events
}

func (a *armed) lost() <-chan struct{} {
	if a.source == nil {
		return nil
	}
	return a.source.lost
}

func (a *armed) close() {
	if a.source != nil {
		a.source.close()
	}
	*a = armed{}
}
