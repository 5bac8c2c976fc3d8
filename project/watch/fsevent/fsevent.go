// Package fsevent reports events of files and directories. On Linux it uses inotify(7) and asks only for the events that the caller needs,
// because the kernel wakes a process for each that it has asked for: fsnotify asks for every write to any file of a directory. On other systems it
// uses fsnotify.
package fsevent

import (
	"sync"

	"github.com/localport-sh/localport/forwarder/wait"
)

// Interest is what a watch reports beside what is always reported: that the watched file or directory itself is removed, renamed or unmounted, and
// changes of permissions, owner and times, of itself and of the entries of a directory.
type Interest uint8

// Interests can be combined.
const (
	Appearance    Interest = 1 << iota // an entry is created in the directory or moved into it
	Disappearance                      // an entry of the directory is removed, moved away, or replaced by one that is moved into the directory
	Content                            // the file, or a file in the directory, is written to or truncated
)

// Event is a change. More may be reported than was asked for.
type Event struct {
	Name    string // of the entry in a watched directory; "" if the event concerns what is watched itself
	IsGone  bool   // what was watched was removed, renamed or unmounted: its path leads to something else now, or to nothing
	IsMoved bool   // it was renamed, and is still watched
}

// Source reports the events of what is added to it, until Close.
type Source struct {
	eventCh   chan Event
	lostCh    chan struct{}
	closingCh chan struct{}
	closeOnce sync.Once
	doneCh    chan struct{} // closed when the goroutine that reads events has ended
	backend   backend
}

// Open returns a Source that watches nothing yet. The caller closes it.
func Open() (*Source, error) {
	s := &Source{eventCh: make(chan Event), lostCh: make(chan struct{}, 1), closingCh: make(chan struct{}), doneCh: make(chan struct{})}
	if err := s.backend.open(); err != nil {
		return nil, err
	}
	go func() {
		defer close(s.doneCh)
		defer close(s.eventCh)
		s.backend.read(s)
	}()
	return s, nil
}

// Events is closed when the Source has ended, by Close or by an error.
func (s *Source) Events() <-chan Event { return s.eventCh }

// Lost receives when events were lost because there were too many.
func (s *Source) Lost() <-chan struct{} { return s.lostCh }

// Add watches a file or directory. A path that was added before is watched for both interests. A file is watched only where WatchesFiles.
func (s *Source) Add(path string, interest Interest) error { return s.backend.add(path, interest) }

// Close ends the Source and waits for its goroutine. It may be called more than once.
func (s *Source) Close() {
	s.closeOnce.Do(func() {
		close(s.closingCh)
		s.backend.close()
	})
	<-s.doneCh
}

// deliver passes on an event, unless the Source is being closed.
func (s *Source) deliver(event Event) {
	select {
	case s.eventCh <- event:
	case <-s.closingCh:
	}
}

func (s *Source) reportLoss() { wait.Notify(s.lostCh) }
