package watch

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/project/watch/fsevent"
)

// noEventSettings make a Watcher receive no events, and poll often.
func noEventSettings() settings {
	s := fastSettings()
	s.pollInterval = 5 * time.Millisecond
	s.add = func(eventSource, string, fsevent.Interest) error { return nil }
	return s
}

func TestWatcher_PollsWithoutEventsAndSaysWhy(t *testing.T) {
	dir := resolvedTempDir(t)
	path := filepath.Join(dir, "f")
	unreliable := noEventSettings()
	unreliable.unreliableFilesystem = func(string) string { return "9p" }
	noWatches := noEventSettings()
	noWatches.add = func(eventSource, string, fsevent.Interest) error {
		return os.NewSyscallError("inotify_add_watch", syscall.ENOSPC)
	}
	noInstances := noEventSettings()
	noInstances.newSource = func() (eventSource, error) { return nil, syscall.EMFILE }
	forbidden := noEventSettings()
	forbidden.add = func(eventSource, string, fsevent.Interest) error { return syscall.EACCES }
	for name, c := range map[string]struct {
		settings
		want string
	}{
		"another filesystem": {unreliable, dir + " is on 9p"},
		"no watches":         {noWatches, "no space left on device"},
		"no instances":       {noInstances, "too many open files"},
		"no permission":      {forbidden, dir + ": permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			must(t, os.RemoveAll(path))
			w := startWatcher(t, c.settings, path)
			if reason, isPolling := w.Polling(); !isPolling || !strings.Contains(reason, c.want) {
				t.Errorf("polling %v, because %q", isPolling, reason)
			}
			write(t, path, name)
			waitForText(t, w, path, name, "a change without an event")
		})
	}
}

func TestWatcher_DoesNotPollALocalFilesystem(t *testing.T) {
	w := startWatcher(t, defaultSettings, filepath.Join(resolvedTempDir(t), "f"))
	if reason, isPolling := w.Polling(); isPolling {
		t.Errorf("polling, because %s", reason)
	}
}

func TestWatcher_ReturnsToEventsWhenTheLimitIsRaised(t *testing.T) {
	path := filepath.Join(resolvedTempDir(t), "f")
	var isRaised atomic.Bool
	s := fastSettings()
	s.pollInterval = 5 * time.Millisecond
	s.newSource = func() (eventSource, error) {
		if !isRaised.Load() {
			return nil, syscall.EMFILE
		}
		return newSource()
	}
	w := startWatcher(t, s, path)
	isRaised.Store(true)
	write(t, path, "one")
	waitForText(t, w, path, "one", "found by polling")
	for polling := true; polling; _, polling = w.Polling() {
		write(t, path, time.Now().String())
		waitForChange(t, w, "each change, while it returns to events")
	}
	write(t, path, "two")
	waitForText(t, w, path, "two", "reported by an event: the next rescan is an hour away")
}

func TestWatcher_RescanFindsAChangeWithoutAnEvent(t *testing.T) {
	path := filepath.Join(resolvedTempDir(t), "f")
	write(t, path, "old")
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer file.Close()
	mapping, err := unix.Mmap(int(file.Fd()), 0, len("old"), unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	defer func() { _ = unix.Munmap(mapping) }()
	s := fastSettings()
	s.rescanInterval = 5 * time.Millisecond
	w := startWatcher(t, s, path)
	copy(mapping, "new")
	waitForText(t, w, path, "new", "it was written in memory")
	if reason, isPolling := w.Polling(); isPolling {
		t.Errorf("polling, because %s", reason)
	}
}

// lossySource loses all events.
type lossySource struct {
	eventSource
	lostCh chan struct{}
}

func (lossySource) Events() <-chan fsevent.Event { return nil }

func (s lossySource) Lost() <-chan struct{} { return s.lostCh }

func TestWatcher_RescansAfterLostEvents(t *testing.T) {
	path, lostCh := filepath.Join(resolvedTempDir(t), "f"), make(chan struct{})
	s := fastSettings()
	s.newSource = func() (eventSource, error) {
		source, err := newSource()
		return lossySource{source, lostCh}, err
	}
	w := startWatcher(t, s, path)
	write(t, path, "new")
	lostCh <- struct{}{}
	waitForText(t, w, path, "new", "the queue overflowed")
}

func TestWatcher_ReplacesAnEndedSource(t *testing.T) {
	path := filepath.Join(resolvedTempDir(t), "f")
	sourceCh := make(chan eventSource, 2)
	s := fastSettings()
	s.newSource = func() (eventSource, error) {
		source, err := newSource()
		sourceCh <- source
		return source, err
	}
	w := startWatcher(t, s, path)
	(<-sourceCh).Close()
	<-sourceCh
	write(t, path, "new")
	waitForText(t, w, path, "new", "it was written after the source was replaced")
}
