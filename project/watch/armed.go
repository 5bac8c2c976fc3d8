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

// armed is the directories whose events come, and the names in them that matter. A source that has been set up is never
// changed, but replaced by another: fsnotify mistakes a directory for the one that had its name before.
type armed struct {
	source *source // nil: none yet, or none could be had
	dirs   map[string]place
	names  map[string]bool
	silent string // why events do not tell everything
	failed bool   // something could not be watched that may be another time
}

// place is the directory that has a path just now.
type place struct {
	dev, ino uint64
	passage  bool // no file and no link lies in it
}

// cover has events come for every entry on the way to the files, and from no other directory. It returns why events do
// not tell everything, if so, and false if the ways changed all the while.
func (a *armed) cover(paths []string, s settings) (reason string, steady bool) {
	if a.failed {
		a.close() // the limit may have been raised
	}
	for range 8 {
		dirs, names := needed(paths)
		if a.source != nil && maps.Equal(dirs, a.dirs) {
			a.names = names
			return a.silent, true
		}
		a.close()
		if err := a.open(dirs, s); err != nil {
			return limits(err), true
		}
	}
	return a.silent, false
}

// needed is the directories in which the ways to the files are decided, and the names there.
func needed(paths []string) (dirs map[string]place, names map[string]bool) {
	dirs, names = map[string]place{}, map[string]bool{}
	for _, path := range paths {
		for _, e := range way(path) {
			if e.passage && !watchPassages {
				continue
			}
			known, ok := dirs[e.dir]
			if !ok {
				known = placeOf(e.dir)
			}
			known.passage = e.passage && (known.passage || !ok)
			dirs[e.dir], names[e.name] = known, true
		}
	}
	return dirs, names
}

// placeOf is zero for a directory that is gone by now.
func placeOf(dir string) place {
	info, err := os.Stat(dir)
	if err != nil {
		return place{}
	}
	stat := info.Sys().(*syscall.Stat_t)
	return place{dev: uint64(stat.Dev), ino: stat.Ino}
}

func (a *armed) open(dirs map[string]place, s settings) error {
	source, err := s.source()
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
func (a *armed) add(dir string, s settings) {
	err := s.add(a.source.Watcher, dir)
	gone := errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
	switch {
	case gone: // what is needed has changed, also where it looks the same again: numbers of inodes are used anew
		delete(a.dirs, dir)
	case a.dirs[dir].passage: // what is needed does not depend on it
	case err != nil:
		a.silent, a.failed = fmt.Sprintf("watch %s: %s", dir, limits(err)), true
	case a.silent == "":
		if kind := s.silence(dir); kind != "" {
			a.silent = fmt.Sprintf("%s is on %s, which does not report changes made by other machines", dir, kind)
		}
	}
}

// concerns reports whether an event may matter. The name alone decides: a directory that has two paths, as with a bind
// mount, tells of its files by either.
func (a *armed) concerns(event fsnotify.Event) bool {
	if _, watched := a.dirs[event.Name]; watched {
		if event.Has(fsnotify.Remove) || event.Has(fsnotify.Rename) {
			a.close() // it is watched no more, and may be back before anyone looks
		}
		return true
	}
	return a.names[filepath.Base(event.Name)]
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
