package watch

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

// deaf is a Watch to which no events come, and that looks often.
func deaf() settings {
	s := eager()
	s.poll = 5 * time.Millisecond
	s.add = func(*fsnotify.Watcher, string) error { return nil }
	return s
}

func TestWhereEventsDoNotComeItLooksAndSaysWhy(t *testing.T) {
	dir := physical(t)
	path := filepath.Join(dir, "f")
	onWindows := deaf()
	onWindows.silence = func(string) string { return "9p" }
	noWatches := deaf()
	noWatches.add = func(*fsnotify.Watcher, string) error { return os.NewSyscallError("inotify_add_watch", syscall.ENOSPC) }
	noInstances := deaf()
	noInstances.source = func() (*source, error) { return nil, syscall.EMFILE }
	forbidden := deaf()
	forbidden.add = func(*fsnotify.Watcher, string) error { return syscall.EACCES }
	for name, c := range map[string]struct {
		settings
		want string
	}{
		"another filesystem": {onWindows, dir + " is on 9p"},
		"no watches":         {noWatches, "no space left on device"},
		"no instances":       {noInstances, "too many open files"},
		"no permission":      {forbidden, dir + ": permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			must(t, os.RemoveAll(path))
			w := started(t, c.settings, path)
			if reason, is := w.Polling(); !is || !strings.Contains(reason, c.want) {
				t.Errorf("polling %v, because %q", is, reason)
			}
			write(t, path, name)
			settled(t, w, path, name, "a change without an event")
		})
	}
}

func TestOnAnOrdinaryDiskItDoesNotPoll(t *testing.T) {
	w := started(t, usual, filepath.Join(physical(t), "f"))
	if reason, is := w.Polling(); is {
		t.Errorf("polling, because %s", reason)
	}
}

func TestWhenTheLimitIsRaisedEventsComeAgain(t *testing.T) {
	path := filepath.Join(physical(t), "f")
	var raised atomic.Bool
	s := eager()
	s.poll = 5 * time.Millisecond
	s.source = func() (*source, error) {
		if !raised.Load() {
			return nil, syscall.EMFILE
		}
		return newSource()
	}
	w := started(t, s, path)
	raised.Store(true)
	write(t, path, "one")
	settled(t, w, path, "one", "found by looking")
	for polling := true; polling; _, polling = w.Polling() {
		write(t, path, time.Now().String())
		told(t, w, "each change, while it returns to events")
	}
	write(t, path, "two")
	settled(t, w, path, "two", "told by an event: the next look is an hour away")
}

func TestAWriteThatHasNoEventIsFoundByTheSlowLook(t *testing.T) {
	path, elsewhere := filepath.Join(physical(t), "f"), filepath.Join(physical(t), "g")
	write(t, path, "old")
	must(t, os.Link(path, elsewhere))
	s := eager()
	s.backup = 5 * time.Millisecond
	w := started(t, s, path)
	write(t, elsewhere, "new")
	settled(t, w, path, "new", "it was written by its other name")
	if reason, is := w.Polling(); is {
		t.Errorf("polling, because %s", reason)
	}
}

func TestLostEventsAreMadeUpForByALook(t *testing.T) {
	path := filepath.Join(physical(t), "f")
	sources := make(chan *source, 1)
	s := eager()
	s.add = func(*fsnotify.Watcher, string) error { return nil }
	s.source = func() (*source, error) {
		source, err := newSource()
		sources <- source
		return source, err
	}
	w := started(t, s, path)
	write(t, path, "new")
	(<-sources).Errors <- fsnotify.ErrEventOverflow
	settled(t, w, path, "new", "the queue overflowed")
}

func TestASourceThatEndsByItselfIsReplaced(t *testing.T) {
	path := filepath.Join(physical(t), "f")
	sources := make(chan *source, 2)
	s := eager()
	s.source = func() (*source, error) {
		source, err := newSource()
		sources <- source
		return source, err
	}
	w := started(t, s, path)
	must(t, (<-sources).Close())
	<-sources
	write(t, path, "new")
	settled(t, w, path, "new", "it was written when another source was got")
}
