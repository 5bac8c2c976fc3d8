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
	debounce             time.Duration // a burst of events is over when none has come for this long,
	maxDelay             time.Duration // and is not waited for any longer than this
	pollInterval         time.Duration // from look to look where events do not come
	rescanInterval       time.Duration // and where they do: some changes have none, as a write through a second hard link
	readGrace            time.Duration // how long the caller may take to read, once told
	unreliableFilesystem func(dir string) string
	newSource            func() (*eventSource, error)
	addDir               func(w *fsnotify.Watcher, dir string) error
}

var defaultSettings = settings{
	debounce: 100 * time.Millisecond, maxDelay: time.Second, pollInterval: 2 * time.Second, rescanInterval: 30 * time.Second,
	readGrace:            10 * time.Second,
	unreliableFilesystem: unreliableFilesystem, newSource: newSource, addDir: (*fsnotify.Watcher).Add,
}

// setPathsRequest is a call of SetPaths.
type setPathsRequest struct {
	paths  []string
	doneCh chan struct{}
}

// Watcher looks after a set of files, whether they exist or not, until Close.
type Watcher struct {
	settings
	changesCh chan struct{}
	requestCh chan setPathsRequest
	stopCh    chan struct{}
	closeOnce sync.Once
	doneCh    chan struct{}

	mu         sync.Mutex
	pollReason string

	// The rest is the loop's own.
	watches     watchSet
	contents    map[string]content
	debouncer   debouncer
	rescanTimer *time.Timer
	hasChange   bool      // there is a change to tell
	deliveredAt time.Time // when the caller last began to read
}

// Start begins to watch the files at paths, which are absolute. What changes after it has returned is told, so start
// first and then read. The caller closes the Watch.
func Start(paths []string) *Watcher { return start(paths, defaultSettings) }

func start(paths []string, s settings) *Watcher {
	w := newWatcher(paths, s)
	go w.run()
	return w
}

func newWatcher(paths []string, s settings) *Watcher {
	w := &Watcher{
		settings:  s,
		changesCh: make(chan struct{}), requestCh: make(chan setPathsRequest), stopCh: make(chan struct{}), doneCh: make(chan struct{}),
		debouncer:   newDebouncer(s.debounce, s.maxDelay),
		rescanTimer: time.NewTimer(s.rescanInterval),
	}
	w.replacePaths(paths)
	return w
}

// Changes receives when the contents of a file have become others than they were, or it has appeared, vanished or
// become unreadable: once after a burst, 100 ms after its last event and at most a second after its first. A change
// that was not received yet stands for all that come after it, so receive first and then read, within ten seconds. A
// file that was only touched, or written anew with the same contents, is told in these ten seconds only: the caller may
// have read what was there for a moment. The channel is never closed.
func (w *Watcher) Changes() <-chan struct{} { return w.changesCh }

// SetPaths replaces the set of files. What changes after it has returned is told.
func (w *Watcher) SetPaths(paths []string) {
	o := setPathsRequest{paths, make(chan struct{})}
	select {
	case w.requestCh <- o:
		<-o.doneCh
	case <-w.doneCh:
	}
}

// Polling reports whether the files are looked at every two seconds because no events come, and why.
func (w *Watcher) Polling() (reason string, is bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pollReason, w.pollReason != ""
}

// Close ends the Watch and returns when nothing of it is left. It may be called more than once.
func (w *Watcher) Close() {
	w.closeOnce.Do(func() { close(w.stopCh) })
	<-w.doneCh
}

func (w *Watcher) run() {
	defer close(w.doneCh)
	defer w.rescanTimer.Stop()
	defer w.debouncer.stop()
	defer w.watches.close()
	for {
		var news chan<- struct{}
		if w.hasChange {
			news = w.changesCh
		}
		select {
		case <-w.stopCh:
			return
		case news <- struct{}{}:
			w.hasChange, w.deliveredAt = false, time.Now()
		case o := <-w.requestCh:
			w.replacePaths(o.paths)
			close(o.doneCh)
		case event, ok := <-w.watches.eventsCh():
			w.handleEvent(event, ok)
		case <-w.watches.lostCh():
			w.debouncer.extend()
		case <-w.debouncer.firedCh():
			w.debouncer.reset()
			w.rescan(true)
		case <-w.rescanTimer.C:
			w.rescan(false)
		}
	}
}

// handleEvent takes one event in; open is false when no more will come from this source.
func (w *Watcher) handleEvent(event fsnotify.Event, open bool) {
	if !open {
		w.watches.close()
	}
	if !open || w.watches.isRelevant(event) {
		w.debouncer.extend()
	}
}

// replacePaths takes up a set of files. Those that were watched before keep what was seen of them.
func (w *Watcher) replacePaths(paths []string) {
	w.updateWatches(paths)
	now := readContents(paths)
	for path, was := range w.contents {
		if is, still := now[path]; still && is.differs(was) {
			w.hasChange = true
		}
	}
	w.contents, w.deliveredAt = now, time.Now()
}

// rescan finds out whether there is anything to tell. What is as it was at the last look may have been something else in
// between, and that is what a caller may have read who was told just before.
func (w *Watcher) rescan(event bool) {
	paths := slices.Collect(maps.Keys(w.contents))
	w.updateWatches(paths)
	now := readContents(paths)
	for path, is := range now {
		was := w.contents[path]
		touched := event || is.stamp != was.stamp
		if is.differs(was) || touched && time.Since(w.deliveredAt) < w.readGrace {
			w.hasChange = true
		}
	}
	w.contents = now
}

// updateWatches has events come for all that leads to the files. It is done before the files are read, so that a change after
// the reading has its event.
func (w *Watcher) updateWatches(paths []string) {
	reason, steady := w.watches.update(paths, w.settings)
	if !steady {
		w.debouncer.extend()
	}
	w.mu.Lock()
	w.pollReason = reason
	w.mu.Unlock()
	if reason == "" {
		w.rescanTimer.Reset(w.rescanInterval)
	} else {
		w.rescanTimer.Reset(w.pollInterval)
	}
}
