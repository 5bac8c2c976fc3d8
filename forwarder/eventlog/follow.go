package eventlog

import (
	"context"
	"time"

	"github.com/fsnotify/fsnotify"
)

// fallback is how often a directory is looked at without being told: file systems and sandboxes exist that tell
// nothing, and watches run out.
const fallback = 2 * time.Second

// Follow calls look now, whenever something in the directory changed, and every two seconds. It returns look's error,
// or nil when ctx ends.
func Follow(ctx context.Context, dir string, look func() error) error {
	changes, watch, stop := watched(dir)
	defer stop()
	tick := time.NewTicker(fallback)
	defer tick.Stop()
	for {
		if err := look(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-changes:
			if !ok { // the watcher broke; the fallback has to do
				changes = nil
			}
			drain(changes)
		case <-tick.C:
			watch() // the directory may have been made anew
		}
	}
}

// watched delivers the changes in a directory. Without a watcher there are none, and the fallback has to do.
func watched(dir string) (changes <-chan fsnotify.Event, watch, stop func()) {
	watcher, err := fsnotify.NewBufferedWatcher(64)
	if err != nil {
		return nil, func() {}, func() {}
	}
	watch = func() { _ = watcher.Add(dir) }
	watch()
	done := make(chan struct{})
	go func() { // an overflow is an error that nobody needs: the fallback looks anyway
		defer close(done)
		for range watcher.Errors {
		}
	}()
	return watcher.Events, watch, func() {
		_ = watcher.Close()
		<-done
	}
}

// drain takes what is there: one look answers any number of changes.
func drain(changes <-chan fsnotify.Event) {
	for {
		select {
		case _, ok := <-changes:
			if !ok {
				return
			}
		default:
			return
		}
	}
}
