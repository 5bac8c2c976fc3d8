package watch

import (
	"maps"
	"sync/atomic"

	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/project/watch/fsevent"
)

// Monitor reports that something may have happened to files, to sockets or to directories on their paths, until Close. Unlike a Watcher, it reads
// nothing. A nil Monitor reports nothing.
type Monitor struct {
	settings
	eventCh    chan struct{}
	pathsCh    chan []string
	stopCh     chan struct{}
	doneCh     chan struct{}
	isComplete atomic.Bool

	// The fields that follow belong to the goroutine of run.
	paths       []string
	watches     watchSet
	debouncer   debouncer
	updateTimer *wait.LongTimer
}

// StartMonitor begins to monitor what is at the paths, which are absolute, or may appear there. The caller closes the Monitor.
func StartMonitor(paths []string) *Monitor { return startMonitor(paths, defaultSettings) }

func startMonitor(paths []string, s settings) *Monitor {
	m := &Monitor{
		settings: s, paths: paths,
		eventCh: make(chan struct{}, 1), pathsCh: make(chan []string, 1), stopCh: make(chan struct{}), doneCh: make(chan struct{}),
		debouncer:   newDebouncer(s.debounce, s.maxDelay),
		updateTimer: wait.NewLongTimer(s.rescanInterval),
	}
	m.update()
	go m.run()
	return m
}

// Events receives 100 ms after the last event of a burst, and at most a second after its first. A change that was made before something is received is
// seen by who looks then.
func (m *Monitor) Events() <-chan struct{} {
	if m == nil {
		return nil
	}
	return m.eventCh
}

// IsComplete reports whether every change is reported. If not, the caller has to look at intervals. What was mounted over a directory is found after
// half a minute in any case. When this changes, Events receives.
func (m *Monitor) IsComplete() bool { return m != nil && m.isComplete.Load() }

// SetPaths replaces the paths. It does not wait; Events receives when the paths are monitored.
func (m *Monitor) SetPaths(paths []string) {
	if m != nil {
		wait.Replace(m.pathsCh, paths)
	}
}

// Close stops the Monitor and waits for its goroutines.
func (m *Monitor) Close() {
	if m != nil {
		close(m.stopCh)
		<-m.doneCh
	}
}

func (m *Monitor) run() {
	defer close(m.doneCh)
	defer m.updateTimer.Stop()
	defer m.debouncer.stop()
	defer m.watches.close()
	for {
		select {
		case <-m.stopCh:
			return
		case m.paths = <-m.pathsCh:
			m.update()
			wait.Notify(m.eventCh)
		case event, isOpen := <-m.watches.eventsCh():
			m.handleEvent(event, isOpen)
		case <-m.watches.lostCh():
			m.debouncer.extend()
		case <-m.debouncer.firedCh():
			m.debouncer.reset()
			m.update()
			wait.Notify(m.eventCh)
		case <-m.updateTimer.C:
			m.update()
		}
	}
}

// handleEvent handles one event; isOpen is false if the source has ended.
func (m *Monitor) handleEvent(event fsevent.Event, isOpen bool) {
	if !isOpen {
		m.watches.close()
	}
	if !isOpen || m.watches.isRelevant(event) {
		m.debouncer.extend()
	}
}

// update watches everything that decides what the paths resolve to. Events receives if something else was watched before.
func (m *Monitor) update() {
	before := m.watches.targets
	reason, isStable := m.watches.update(m.paths, m.settings)
	if !isStable {
		m.debouncer.extend()
	}
	hasChanged := m.isComplete.Swap(reason == "") != (reason == "")
	if hasChanged || !maps.Equal(before, m.watches.targets) {
		wait.Notify(m.eventCh)
	}
	m.updateTimer.Reset(wait.AlignDelay(m.rescanInterval))
}
