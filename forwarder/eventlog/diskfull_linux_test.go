package eventlog

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFile_ReportsAFullDiskOnceItHasSpace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "db.log")
	events := filepath.Join(dir, eventsFileName)
	for _, name := range []string{path, events} {
		if err := os.Symlink("/dev/full", name); err != nil {
			t.Fatal(err)
		}
	}
	file, record := NewFile(path, nil, Limits{}), NewRecorder(dir, nil, Limits{})
	defer file.Close()
	defer record.Close()
	fmt.Fprint(file.RunWriter("run.1"), "one\ntwo\n")
	record.Append(Event{Kind: ServiceFailed})
	for _, name := range []string{path, events} {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Fprintln(file.RunWriter("run.1"), "three")
	record.Append(Event{Kind: ServiceRecovered})
	if got := readFile(t, path); strings.Count(got, "\n") != 2 || !strings.Contains(got, "2 lines lost: no space left on device\n") {
		t.Errorf("the log holds %q", got)
	}
	var lost Event
	first, _, _ := strings.Cut(readFile(t, events), "\n")
	if err := json.Unmarshal([]byte(first), &lost); err != nil || lost.Kind != EventsLost ||
		lost.Reason != "1 events lost: no space left on device" {
		t.Errorf("the first event is %q, %v", first, err)
	}
}
