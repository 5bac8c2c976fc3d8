package eventlog

import (
	"context"
	"time"

	"github.com/fsnotify/fsnotify"
)

// pollInterval is how often a directory is read without a notification: some file systems and sandboxes send none, and the
// number of inotify watches is limited.
const pollInterval = 2 * time.Second

// FollowDir calls onChange at once, after each change in the directory, and at least every two seconds. It returns the error of
// onChange, or nil when ctx ends.
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
			if !ok { // the watcher has ended; polling continues
				changes = nil
			}
			drainChanges(changes)
		case <-tick.C:
			rewatch() // the directory may have been created, or replaced
		}
	}
}

// watchDir delivers the changes in a directory; none if there is no watcher, then only polling finds them.
func watchDir(dir string) (changes <-chan fsnotify.Event, watch, stop func()) {
	watcher, err := fsnotify.NewBufferedWatcher(64)
	if err != nil {
		return nil, func() {}, func() {}
	}
	watch = func() { _ = watcher.Add(dir) }
	watch()
	done := make(chan struct{})
	go func() { // the only error is an overflow, after which polling finds what was missed
		defer close(done)
		for range watcher.Errors {
		}
	}()
	return watcher.Events, watch, func() {
		_ = watcher.Close()
		<-done
	}
}

// drainChanges empties the channel: one call of onChange covers any number of changes.
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
