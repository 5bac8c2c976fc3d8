package fsevent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestSource_ReportsOnlyWhatWasAskedFor(t *testing.T) {
	dir := t.TempDir()
	file, other := filepath.Join(dir, "file"), filepath.Join(dir, "other")
	for name, c := range map[string]struct {
		path     string
		interest Interest
		want     []Event
	}{
		"the file's content":   {file, Content, []Event{{}, {}}}, // written; permissions changed
		"the file alone":       {file, 0, []Event{{}}},
		"the directory alone":  {dir, 0, []Event{{Name: "file"}}},
		"what appears":         {dir, Appearance, []Event{{Name: "other"}, {Name: "again"}, {Name: "file"}}},
		"what disappears":      {dir, Disappearance, []Event{{Name: "other"}, {Name: "again"}, {Name: "again"}, {Name: "file"}}},
		"all that is written":  {dir, Content, []Event{{Name: "file"}, {Name: "other"}, {Name: "file"}}},
		"two interests in one": {dir, Appearance | Content, []Event{{Name: "file"}, {Name: "other"}, {Name: "other"}, {Name: "again"}, {Name: "file"}}},
	} {
		t.Run(name, func(t *testing.T) {
			must(t, os.WriteFile(file, nil, 0o600))
			s := openSource(t)
			must(t, s.Add(c.path, c.interest))
			appendByte(t, file)
			appendByte(t, other)
			must(t, os.Rename(other, filepath.Join(dir, "again")))
			must(t, os.Remove(filepath.Join(dir, "again")))
			must(t, os.Chmod(file, 0o640))
			var got []Event
			for range c.want {
				got = append(got, s.next(t))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

// appendByte writes to a file, and creates it if it is missing.
func appendByte(t *testing.T, path string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	must(t, err)
	_, err = file.WriteString("x")
	must(t, err)
	must(t, file.Close())
}

// A file that is replaced by renaming another one over it is written to no more; the watched one has a link less.
func TestSource_ReportsAReplacedFile(t *testing.T) {
	file, s := filepath.Join(t.TempDir(), "file"), openSource(t)
	must(t, os.WriteFile(file, nil, 0o600))
	must(t, s.Add(file, Content))
	must(t, os.WriteFile(file+".new", nil, 0o600))
	must(t, os.Rename(file+".new", file))
	for {
		if event := s.next(t); event.IsGone {
			break
		}
	}
}

func TestSource_ReportsThatEventsWereLost(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	must(t, err)
	limit, err := strconv.Atoi(strings.TrimSpace(string(text)))
	must(t, err)
	if limit > 1<<17 {
		t.Skipf("the queue has room for %d events", limit)
	}
	dir, s := t.TempDir(), openSource(t)
	must(t, s.Add(dir, Appearance))
	for n := 0; n < limit+1000; n++ { // two events in a row that are the same are one
		must(t, os.Symlink("x", filepath.Join(dir, fmt.Sprint(n%2))))
		must(t, os.Remove(filepath.Join(dir, fmt.Sprint(n%2))))
	}
	for {
		select {
		case <-s.Events():
		case <-s.Lost():
			return
		case <-time.After(30 * time.Second):
			t.Fatal("nothing said that events were lost")
		}
	}
}

func TestParseEvents_StopsAtAnIncompleteRecord(t *testing.T) {
	for size := range 40 {
		parseEvents(make([]byte, size), func(Event) {}, func() {})
	}
	record := make([]byte, 16)
	record[12], record[13] = 0xff, 0xff
	parseEvents(record, func(e Event) { t.Errorf("%+v", e) }, func() {})
}
