// Package watch tells when a project's files may have changed: by the kernel's events where these come, and by looking
// every two seconds where they do not.
package watch

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settings are how a Watch does its work. Tests have others than usual.
type settings struct {
	quiet   time.Duration // a burst of events is over when none has come for this long,
	latest  time.Duration // and is not waited for any longer than this
	poll    time.Duration // from look to look where events do not come
	backup  time.Duration // and where they do: some changes have none, as a write through a second hard link
	reading time.Duration // how long the caller may take to read, once told
	silence func(dir string) string
	source  func() (*source, error)
	add     func(w *fsnotify.Watcher, dir string) error
}

var usual = settings{
	quiet: 100 * time.Millisecond, latest: time.Second, poll: 2 * time.Second, backup: 30 * time.Second,
	reading: 10 * time.Second,
	silence: silence, source: newSource, add: (*fsnotify.Watcher).Add,
}

// order is a call of SetPaths.
type order struct {
	paths []string
	done  chan struct{}
}

// Watch looks after a set of files, whether they exist or not, until Close.
type Watch struct {
	settings
	changes chan struct{}
	paths   chan order
	stop    chan struct{}
	closed  sync.Once
	done    chan struct{}

	mu     sync.Mutex
	reason string

	// The rest is the loop's own.
	armed   armed
	seen    map[string]content
	pending burst
	slow    *time.Timer
	news    bool      // there is a change to tell
	told    time.Time // when the caller last began to read
}

// Start begins to watch the files at paths, which are absolute. What changes after it has returned is told, so start
// first and then read. The caller closes the Watch.
func Start(paths []string) *Watch { return start(paths, usual) }

func start(paths []string, s settings) *Watch {
	w := newWatch(paths, s)
	go w.run()
	return w
}

func newWatch(paths []string, s settings) *Watch {
	w := &Watch{
		settings: s,
		changes:  make(chan struct{}), paths: make(chan order), stop: make(chan struct{}), done: make(chan struct{}),
		pending: newBurst(s.quiet, s.latest),
		slow:    time.NewTimer(s.backup),
	}
	w.follow(paths)
	return w
}

// Changes receives when the contents of a file have become others than they were, or it has appeared, vanished or
// become unreadable: once after a burst, 100 ms after its last event and at most a second after its first. A change
// that was not received yet stands for all that come after it, so receive first and then read, within ten seconds. A
// file that was only touched, or written anew with the same contents, is told in these ten seconds only: the caller may
// have read what was there for a moment. The channel is never closed.
func (w *Watch) Changes() <-chan struct{} { return w.changes }

// SetPaths replaces the set of files. What changes after it has returned is told.
func (w *Watch) SetPaths(paths []string) {
	o := order{paths, make(chan struct{})}
	select {
	case w.paths <- o:
		<-o.done
	case <-w.done:
	}
}

// Polling reports whether the files are looked at every two seconds because no events come, and why.
func (w *Watch) Polling() (reason string, is bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reason, w.reason != ""
}

// Close ends the Watch and returns when nothing of it is left. It may be called more than once.
func (w *Watch) Close() {
	w.closed.Do(func() { close(w.stop) })
	<-w.done
}

func (w *Watch) run() {
	defer close(w.done)
	defer w.slow.Stop()
	defer w.pending.stop()
	defer w.armed.close()
	for {
		var news chan<- struct{}
		if w.news {
			news = w.changes
		}
		select {
		case <-w.stop:
			return
		case news <- struct{}{}:
			w.news, w.told = false, time.Now()
		case o := <-w.paths:
			w.follow(o.paths)
			close(o.done)
		case event, ok := <-w.armed.events():
			w.event(event, ok)
		case <-w.armed.lost():
			w.pending.extend()
		case <-w.pending.over():
			w.pending.reset()
			w.look(true)
		case <-w.slow.C:
			w.look(false)
		}
	}
}

// event takes one event in; open is false when no more will come from this source.
func (w *Watch) event(event fsnotify.Event, open bool) {
	if !open {
		w.armed.close()
	}
	if !open || w.armed.concerns(event) {
		w.pending.extend()
	}
}

// follow takes up a set of files. Those that were watched before keep what was seen of them.
func (w *Watch) follow(paths []string) {
	w.arm(paths)
	now := read(paths)
	for path, was := range w.seen {
		if is, still := now[path]; still && is.differs(was) {
			w.news = true
		}
	}
	w.seen, w.told = now, time.Now()
}

// look finds out whether there is anything to tell. What is as it was at the last look may have been something else in
// between, and that is what a caller may have read who was told just before.
func (w *Watch) look(event bool) {
	paths := slices.Collect(maps.Keys(w.seen))
	w.arm(paths)
	now := read(paths)
	for path, is := range now {
		was := w.seen[path]
		touched := event || is.stamp != was.stamp
		if is.differs(was) || touched && time.Since(w.told) < w.reading {
			w.news = true
		}
	}
	w.seen = now
}

// arm has events come for all that leads to the files. It is done before the files are read, so that a change after
// the reading has its event.
func (w *Watch) arm(paths []string) {
	reason, steady := w.armed.cover(paths, w.settings)
	if !steady {
		w.pending.extend()
	}
	w.mu.Lock()
	w.reason = reason
	w.mu.Unlock()
	if reason == "" {
		w.slow.Reset(w.backup)
	} else {
		w.slow.Reset(w.poll)
	}
}
