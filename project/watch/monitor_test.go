package watch

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/localport-sh/localport/project/watch/fsevent"
)

// monitorUntilEnd monitors these paths until the test ends.
func monitorUntilEnd(t *testing.T, s settings, paths ...string) *Monitor {
	t.Helper()
	m := startMonitor(paths, s)
	t.Cleanup(m.Close)
	return m
}

func waitForEvent(t *testing.T, m *Monitor, what string) {
	t.Helper()
	select {
	case <-m.Events():
	case <-time.After(30 * time.Second):
		t.Fatalf("no event: %s", what)
	}
}

func TestMonitor_ReportsWhateverHappensToAFile(t *testing.T) {
	dir := filepath.Join(resolvedTempDir(t), "dir")
	path := filepath.Join(dir, "state.json")
	m := monitorUntilEnd(t, fastSettings(), path)
	for _, step := range []struct {
		what  string
		apply func() error
	}{
		{"its directory is made", func() error { return os.Mkdir(dir, 0o700) }},
		{"it is created", func() error { return os.WriteFile(path, nil, 0o600) }},
		{"it is written", func() error { return os.Truncate(path, 10) }},
		{"it is removed", func() error { return os.Remove(path) }},
		{"it is created again", func() error { return os.WriteFile(path, nil, 0o600) }},
		{"it is renamed", func() error { return os.Rename(path, path+".away") }},
		{"it is renamed back", func() error { return os.Rename(path+".away", path) }},
		{"its permissions change", func() error { return os.Chmod(path, 0o644) }},
		{"its directory is renamed", func() error { return os.Rename(dir, dir+".away") }},
		{"its directory is renamed back", func() error { return os.Rename(dir+".away", dir) }},
		{"everything is removed", func() error { return os.RemoveAll(dir) }},
	} {
		must(t, step.apply())
		waitForEvent(t, m, step.what)
		for m.receivesMore() { // what one change causes: a second event at its end
		}
	}
}

// receivesMore receives an event that follows soon; false if there is none.
func (m *Monitor) receivesMore() bool {
	timer := time.NewTimer(20 * m.debounce)
	defer timer.Stop()
	select {
	case <-m.eventCh:
		return true
	case <-timer.C:
		return false
	}
}

func TestMonitor_ReportsARemovedOrReplacedSocket(t *testing.T) {
	if !fsevent.WatchesFiles {
		t.Skip("kqueue does not report sockets")
	}
	path := filepath.Join(resolvedTempDir(t), "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	must(t, err)
	defer listener.Close()
	m := monitorUntilEnd(t, fastSettings(), path)
	must(t, os.Remove(path))
	waitForEvent(t, m, "it was removed")
	again, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	must(t, err)
	defer again.Close()
	waitForEvent(t, m, "another was bound")
}

func TestMonitor_FollowsOtherPaths(t *testing.T) {
	dir := resolvedTempDir(t)
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	m := monitorUntilEnd(t, fastSettings(), one)
	m.SetPaths([]string{two})
	waitForEvent(t, m, "the paths are monitored")
	write(t, two, "x")
	waitForEvent(t, m, "a file appeared")
}

func TestMonitor_SaysThatChangesMayHaveNoEvent(t *testing.T) {
	unreliable := fastSettings()
	unreliable.unreliableFilesystem = func(string) string { return "nfs" }
	path := filepath.Join(resolvedTempDir(t), "f")
	if monitorUntilEnd(t, unreliable, path).IsComplete() {
		t.Error("events of a network file system count as complete")
	}
	if !monitorUntilEnd(t, fastSettings(), path).IsComplete() {
		t.Error("events of a local file system count as incomplete")
	}
	var none *Monitor
	none.SetPaths(nil)
	none.Close()
	if none.IsComplete() || none.Events() != nil {
		t.Error("a nil Monitor reports something")
	}
}

// What is mounted over a directory, for example, has no event.
func TestMonitor_FindsAtIntervalsWhatHasNoEvent(t *testing.T) {
	s := fastSettings()
	s.rescanInterval = 5 * time.Millisecond
	s.add = func(eventSource, string, fsevent.Interest) error { return nil }
	path := filepath.Join(resolvedTempDir(t), "f")
	m := monitorUntilEnd(t, s, path)
	write(t, path, "x")
	waitForEvent(t, m, "another file is at the path")
}
