package eventlog

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/project"
)

func services(events []Event) string {
	var names []string
	for _, event := range events {
		names = append(names, event.Service)
	}
	return strings.Join(names, " ")
}

func TestAnEventIsReadBackAsItWasWrittenAndMasked(t *testing.T) {
	dir := t.TempDir()
	record := Record(dir, func(s string) string { return strings.NewReplacer("failed", "***", "db", "***").Replace(s) }, Limits{})
	defer record.Close()
	record.Append(Event{
		Time: moment, Kind: Failed, Service: "db", From: "healthy", To: "failed", Reason: `login of "db" failed`, Hint: "ask db",
		Run: "abc.1", Line: 7,
	})
	want := Event{
		Time: moment, Kind: Failed, Service: "db", From: "healthy", To: "failed", Reason: `login of "***" ***`, Hint: "ask ***",
		Run: "abc.1", Line: 7,
	}
	events := EventsIn(dir)
	defer events.Close()
	got, err := events.Read(time.Time{})
	if err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("read %+v, %v\nwant %+v", got, err, want)
	}
}

func TestEventsAreReadFromATimeOnAndThenFollowed(t *testing.T) {
	dir := t.TempDir()
	record := Record(dir, nil, Limits{Size: 200})
	defer record.Close()
	record.Append(Event{Time: moment, Kind: Failed, Service: "a"})
	record.Append(Event{Time: moment.Add(time.Hour), Kind: Failed, Service: "b"})
	events := EventsIn(dir)
	defer events.Close()
	got, err := events.Read(moment.Add(time.Minute))
	if err != nil || services(got) != "b" {
		t.Errorf("read %+v, %v", got, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	got = nil
	record.Append(Event{Kind: Recovered, Service: "c"})
	err = events.Follow(ctx, func(more []Event) error {
		got = append(got, more...)
		switch len(got) {
		case 1:
			record.Append(Event{Kind: Recovered, Service: "d"})
		case 2:
			cancel()
		}
		return nil
	})
	if err != nil || services(got) != "c d" {
		t.Errorf("followed %+v, %v", got, err)
	}
}

func TestTheKindsAreThoseThatAUserCanAskFor(t *testing.T) {
	var kinds []string
	for _, kind := range Kinds {
		kinds = append(kinds, string(kind))
	}
	if !slices.Equal(kinds, project.EventKinds) {
		t.Errorf("events are %v, a user's config knows %v", kinds, project.EventKinds)
	}
}

func TestAPromptIsToldOnlyWhatIsNewToIt(t *testing.T) {
	dir := t.TempDir()
	if got, err := Since(dir, 0); err != nil || len(got) != 0 {
		t.Errorf("with no events: %+v, %v", got, err)
	}
	record := Record(dir, nil, Limits{Size: 300, Files: 2})
	defer record.Close()
	for i, line := range []uint64{1, 0, 2, 2, 0, 3, 0} {
		record.Append(Event{Kind: Failed, Service: fmt.Sprint(i), Line: line})
	}
	if !exists(filepath.Join(dir, eventsName+".1")) {
		t.Fatal("the test wants events in two files")
	}
	for line, want := range map[uint64]string{0: "0 2 3 5", 1: "2 3 5", 2: "5", 3: "", 9: ""} {
		if got, err := Since(dir, line); err != nil || services(got) != want {
			t.Errorf("since line %d: %q, %v, want %q", line, services(got), err, want)
		}
	}
}

func TestAPromptReadsTheEndOfTheEventsAlone(t *testing.T) {
	dir := t.TempDir()
	record := Record(dir, nil, Limits{})
	defer record.Close()
	for i := range 2000 {
		record.Append(Event{Kind: StateChanged, Service: fmt.Sprint(i), From: "starting", To: "healthy", Line: uint64(i + 1)})
	}
	if got, err := Since(dir, 1998); err != nil || services(got) != "1998 1999" {
		t.Errorf("the last: %q, %v", services(got), err)
	}
	got, err := Since(dir, 0)
	if err != nil || len(got) < 50 || len(got) > 1000 || got[len(got)-1].Service != "1999" {
		t.Errorf("%d events, %v", len(got), err)
	}
	if !slices.IsSortedFunc(got, func(a, b Event) int { return int(a.Line) - int(b.Line) }) {
		t.Error("they are not in order")
	}
}

func BenchmarkSince(b *testing.B) {
	dir := b.TempDir()
	record := Record(dir, nil, Limits{})
	defer record.Close()
	for i := range 10000 {
		record.Append(Event{Kind: StateChanged, Service: "db", From: "starting", To: "healthy", Line: uint64(i + 1)})
	}
	for b.Loop() {
		if got, err := Since(dir, 9998); err != nil || len(got) != 2 {
			b.Fatal(len(got), err)
		}
	}
}
