package watch

import (
	"github.com/fsnotify/fsnotify"

	"github.com/localport-sh/localport/forwarder/wait"
)

// eventSource is an fsnotify watcher whose errors are drained.
type eventSource struct {
	*fsnotify.Watcher
	lostCh    chan struct{} // receives when events were lost
	drainedCh chan struct{}
}

// newSource starts a goroutine that drains the watcher's errors: it sends some while it holds the lock that Add waits for.
func newSource() (*eventSource, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	s := &eventSource{watcher, make(chan struct{}, 1), make(chan struct{})}
	go func() {
		defer close(s.drainedCh)
		for range watcher.Errors {
			wait.Notify(s.lostCh)
		}
	}()
	return s, nil
}

func (s *eventSource) close() {
	_ = s.Close() // it may have ended by itself
	<-s.drainedCh
}
