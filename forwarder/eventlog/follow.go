package eventlog

import (
	"context"
	"time"

	"github.com/fsnotify/fsnotify"
)

// pollInterval is how often a directory is looked at without being told: file systems and sandboxes exist that tell
// nothing, and watches run out.
const pollInterval = 2 * time.Second

// FollowDir calls look now, whenever something in the directory changed, and every two seconds. It returns look's error,
// or nil when ctx ends.
func FollowDir(ctx context.Context, dir string, onChange func() error) error {
	changes, rewatch, stop := watchDir(dir)
	defer stop()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		if err := onChange(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-changes:
			if !ok { // the watcher broke; the fallback has to do
				changes = nil
			}
			drainChanges(changes)
		case <-tick.C:
			rewatch() // the directory may have been made anew
		}
	}
}

// watchDir delivers the changes in a directory. Without a watcher there are none, and the fallback has to do.
func watchDir(dir string) (changes <-chan fsnotify.Event, watch, stop func()) {
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

// drainChanges takes what is there: one look answers any number of changes.
func drainChanges(changes <-chan fsnotify.Event) {
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
