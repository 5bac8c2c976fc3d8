package fsevent

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openSource(t *testing.T) *Source {
	t.Helper()
	s, err := Open()
	must(t, err)
	t.Cleanup(s.Close)
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// next returns the next event.
func (s *Source) next(t *testing.T) Event {
	t.Helper()
	select {
	case event := <-s.Events():
		return event
	case <-time.After(30 * time.Second):
		t.Fatal("no event")
		return Event{}
	}
}

func TestSource_ReportsARemovedDirectory(t *testing.T) {
	dir, s := filepath.Join(t.TempDir(), "d"), openSource(t)
	must(t, os.Mkdir(dir, 0o700))
	must(t, s.Add(dir, 0))
	must(t, os.Remove(dir))
	if event := s.next(t); !event.IsGone || event.Name != "" {
		t.Errorf("%+v", event)
	}
}

func TestSource_ReportsANewEntry(t *testing.T) {
	dir, s := t.TempDir(), openSource(t)
	must(t, s.Add(dir, Appearance))
	must(t, os.WriteFile(filepath.Join(dir, "new"), nil, 0o600))
	if event := s.next(t); WatchesFiles && event != (Event{Name: "new"}) { // kqueue may report the directory first
		t.Errorf("%+v", event)
	}
}

func TestSource_AddNamesWhatIsMissing(t *testing.T) {
	if err := openSource(t).Add(filepath.Join(t.TempDir(), "d"), 0); !os.IsNotExist(err) {
		t.Errorf("%v", err)
	}
}

// Close must not wait for a reader of the events.
func TestSource_ClosesWithEventsThatNobodyReads(t *testing.T) {
	dir, s := t.TempDir(), openSource(t)
	must(t, s.Add(dir, Appearance))
	for _, name := range []string{"a", "b"} {
		must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	s.Close()
	s.Close()
	for range s.Events() { // closed
	}
}
