package eventlog

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAFullDiskIsNamedWhenItHasRoomAgain(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "db.log")
	events := filepath.Join(dir, eventsName)
	for _, name := range []string{path, events} {
		if err := os.Symlink("/dev/full", name); err != nil {
			t.Fatal(err)
		}
	}
	file, record := Open(path, nil, Limits{}), Record(dir, nil, Limits{})
	defer file.Close()
	defer record.Close()
	fmt.Fprint(file.Run("run.1"), "one\ntwo\n")
	record.Append(Event{Kind: Failed})
	for _, name := range []string{path, events} {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Fprintln(file.Run("run.1"), "three")
	record.Append(Event{Kind: Recovered})
	if got := read(t, path); strings.Count(got, "\n") != 2 || !strings.Contains(got, "2 lines were lost: no space left on device\n") {
		t.Errorf("the log holds %q", got)
	}
	var lost Event
	first, _, _ := strings.Cut(read(t, events), "\n")
	if err := json.Unmarshal([]byte(first), &lost); err != nil || lost.Kind != Lost ||
		lost.Reason != "1 events were lost: no space left on device" {
		t.Errorf("the first event is %q, %v", first, err)
	}
}
