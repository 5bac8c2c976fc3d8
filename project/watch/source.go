package watch

import (
	"github.com/fsnotify/fsnotify"

	"github.com/localport-sh/localport/forwarder/wait"
)

// source is where events come from.
type source struct {
	*fsnotify.Watcher
	lost    chan struct{} // receives when events were lost
	drained chan struct{}
}

// newSource takes errors off the watcher's hands at once: it sends some while it holds the lock that Add waits for.
func newSource() (*source, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	s := &source{watcher, make(chan struct{}, 1), make(chan struct{})}
	go func() {
		defer close(s.drained)
		for range watcher.Errors {
			wait.Notify(s.lost)
		}
	}()
	return s, nil
}

func (s *source) close() {
	_ = s.Close() // it may have ended by itself
	<-s.drained
}
