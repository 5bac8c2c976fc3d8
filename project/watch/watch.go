// Package watch reports when a project's files may have changed: by inotify or kqueue events where these are reliable, else by
// reading the files every two seconds.
package watch

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/project/watch/fsevent"
)

// settings are the intervals and system calls of a Watcher, which tests replace.
type settings struct {
	debounce             time.Duration // a burst of events ends this long after the last one,
	maxDelay             time.Duration // and at most this long after the first
	pollInterval         time.Duration // between rescans without events
	rescanInterval       time.Duration // between rescans with events: some changes cause none, such as a write to a mapping of the file in memory
	readGrace            time.Duration // how long the caller may take to read after a change was reported
	unreliableFilesystem func(dir string) string
	newSource            func() (eventSource, error)
	add                  func(source eventSource, path string, interest fsevent.Interest) error
}

var defaultSettings = settings{
	debounce: 100 * time.Millisecond, maxDelay: time.Second, pollInterval: 2 * time.Second, rescanInterval: 30 * time.Second,
	readGrace:            10 * time.Second,
	unreliableFilesystem: unreliableFilesystem, newSource: newSource, add: eventSource.Add,
}

func newSource() (eventSource, error) {
	source, err := fsevent.Open()
	if err != nil {
		return nil, err
	}
	return source, nil
}

// setPathsRequest is a call of SetPaths, passed to the run loop.
type setPathsRequest struct {
	paths  []string
	doneCh chan struct{}
}

// Watcher watches a set of files, whether they exist or not, until Close.
type Watcher struct {
	settings
	changesCh chan struct{}
	rescanCh  chan<- struct{}
	requestCh chan setPathsRequest
	stopCh    chan struct{}
	closeOnce sync.Once
	doneCh    chan struct{}

	mu         sync.Mutex
	pollReason string

	// The fields that follow belong to the goroutine of run.
	watches     watchSet
	contents    map[string]content
	debouncer   debouncer
	rescanTimer *wait.LongTimer
	hasChange   bool      // a change has not been received yet
	deliveredAt time.Time // when the caller last received a change, and began to read
}

// Start begins to watch the files at paths, which are absolute. Changes after its return are reported, so start
// first and then read. The caller closes the Watcher. rescanCh has a capacity of 1, or is nil. It receives after each time that the files were read: after a
// burst of events on their paths, of directories too, and at intervals.
func Start(paths []string, rescanCh chan<- struct{}) *Watcher {
	return start(paths, rescanCh, defaultSettings)
}

func start(paths []string, rescanCh chan<- struct{}, s settings) *Watcher {
	w := newWatcher(paths, s)
	w.rescanCh = rescanCh
	go w.run()
	return w
}

func newWatcher(paths []string, s settings) *Watcher {
	w := &Watcher{
		settings:  s,
		changesCh: make(chan struct{}), requestCh: make(chan setPathsRequest), stopCh: make(chan struct{}), doneCh: make(chan struct{}),
		debouncer:   newDebouncer(s.debounce, s.maxDelay),
		rescanTimer: wait.NewLongTimer(s.rescanInterval),
	}
	w.replacePaths(paths)
	return w
}

// Changes receives when the contents of a file have changed, or it has been created, removed or
// become unreadable: once after a burst, 100 ms after its last event and at most a second after its first. A change
// that was not received yet covers all later ones, so receive first and then read, within ten seconds. A
// file that was only touched, or rewritten with the same contents, is reported within these ten seconds only: the caller may
// have read what it held for a moment. The channel is never closed.
func (w *Watcher) Changes() <-chan struct{} { return w.changesCh }

// SetPaths replaces the set of files. Changes after its return are reported.
func (w *Watcher) SetPaths(paths []string) {
	request := setPathsRequest{paths, make(chan struct{})}
	select {
	case w.requestCh <- request:
		<-request.doneCh
	case <-w.doneCh:
	}
}

// Polling reports whether the files are read every two seconds because events are not reliable, and why.
func (w *Watcher) Polling() (reason string, isPolling bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pollReason, w.pollReason != ""
}

// Close stops the Watcher and waits for its goroutines. It may be called more than once.
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
		var changesCh chan<- struct{}
		if w.hasChange {
			changesCh = w.changesCh
		}
		select {
		case <-w.stopCh:
			return
		case changesCh <- struct{}{}:
			w.hasChange, w.deliveredAt = false, time.Now()
		case request := <-w.requestCh:
			w.replacePaths(request.paths)
			close(request.doneCh)
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

// handleEvent handles one event; isOpen is false if the source has ended.
func (w *Watcher) handleEvent(event fsevent.Event, isOpen bool) {
	if !isOpen {
		w.watches.close()
	}
	if !isOpen || w.watches.isRelevant(event) {
		w.debouncer.extend()
	}
}

// replacePaths watches another set of files. A change of a file that was watched before is still reported.
func (w *Watcher) replacePaths(paths []string) {
	w.updateWatches(paths)
	contents := readContents(paths)
	for path, previous := range w.contents {
		if current, isKept := contents[path]; isKept && current.differs(previous) {
			w.hasChange = true
		}
	}
	w.contents, w.deliveredAt = contents, time.Now()
}

// rescan reads the files and sets hasChange if one differs. A file that is the same as at the last rescan may have had other contents in
// between, and a caller that has just received a change may have read those.
func (w *Watcher) rescan(hasEvent bool) {
	paths := slices.Collect(maps.Keys(w.contents))
	w.updateWatches(paths)
	contents := readContents(paths)
	for path, current := range contents {
		previous := w.contents[path]
		isTouched := hasEvent || current.stamp != previous.stamp
		if current.differs(previous) || isTouched && time.Since(w.deliveredAt) < w.readGrace {
			w.hasChange = true
		}
	}
	w.contents = contents
	wait.Notify(w.rescanCh)
}

// updateWatches watches everything that decides what the paths resolve to. It is called before the files are read, so that a change after
// the reading has an event.
func (w *Watcher) updateWatches(paths []string) {
	reason, isStable := w.watches.update(paths, w.settings)
	if !isStable {
		w.debouncer.extend()
	}
	w.mu.Lock()
	w.pollReason = reason
	w.mu.Unlock()
	if reason == "" {
		w.rescanTimer.Reset(wait.AlignDelay(w.rescanInterval))
	} else {
		w.rescanTimer.Reset(w.pollInterval)
	}
}
