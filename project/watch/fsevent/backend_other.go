//go:build !linux

package fsevent

import (
	"path/filepath"
	"sync"

	"github.com/fsnotify/fsnotify"
)

// WatchesFiles reports whether a file that is watched reports its own changes.
const WatchesFiles = false

// backend is an fsnotify watcher. It reports everything that happens to the entries of a directory.
type backend struct {
	watcher *fsnotify.Watcher

	mu    sync.Mutex // guards paths
	paths map[string]bool
}

func (b *backend) open() (err error) {
	b.paths = map[string]bool{}
	b.watcher, err = fsnotify.NewWatcher()
	return err
}

func (b *backend) close() { _ = b.watcher.Close() }

func (b *backend) add(path string, _ Interest) error {
	b.mu.Lock()
	b.paths[path] = true
	b.mu.Unlock()
	return b.watcher.Add(path)
}

// read delivers events until the watcher is closed. Errors are drained by a goroutine of their own: the watcher sends some while it holds the lock
// that Add waits for.
func (b *backend) read(s *Source) {
	var drain sync.WaitGroup
	defer drain.Wait()
	drain.Go(func() {
		for range b.watcher.Errors {
			s.reportLoss()
		}
	})
	for event := range b.watcher.Events {
		b.mu.Lock()
		isWatched := b.paths[event.Name]
		b.mu.Unlock()
		if isWatched {
			s.deliver(Event{IsGone: event.Has(fsnotify.Remove) || event.Has(fsnotify.Rename)})
		} else {
			s.deliver(Event{Name: filepath.Base(event.Name)})
		}
	}
}
