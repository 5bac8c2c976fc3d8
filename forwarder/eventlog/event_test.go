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

func serviceNames(events []Event) string {
	var names []string
	for _, event := range events {
		names = append(names, event.Service)
	}
	return strings.Join(names, " ")
}

func TestRecorder_EventsAreMaskedAndReadBack(t *testing.T) {
	dir := t.TempDir()
	record := NewRecorder(dir, func(s string) string { return strings.NewReplacer("failed", "***", "db", "***").Replace(s) }, Limits{})
	defer record.Close()
	record.Append(Event{
		Time: moment, Kind: ServiceFailed, Service: "db", From: "healthy", To: "failed", Reason: `login of "db" failed`, Hint: "ask db",
		Run: "abc.1", PromptLine: 7,
	})
	want := Event{
		Time: moment, Kind: ServiceFailed, Service: "db", From: "healthy", To: "failed", Reason: `login of "***" ***`, Hint: "ask ***",
		Run: "abc.1", PromptLine: 7,
	}
	events := NewEventReader(dir)
	defer events.Close()
	got, err := events.Read(time.Time{})
	if err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("read %+v, %v\nwant %+v", got, err, want)
	}
}

func TestEventReader_ReadsSinceATimeAndFollows(t *testing.T) {
	dir := t.TempDir()
	record := NewRecorder(dir, nil, Limits{MaxSize: 200})
	defer record.Close()
	record.Append(Event{Time: moment, Kind: ServiceFailed, Service: "a"})
	record.Append(Event{Time: moment.Add(time.Hour), Kind: ServiceFailed, Service: "b"})
	events := NewEventReader(dir)
	defer events.Close()
	got, err := events.Read(moment.Add(time.Minute))
	if err != nil || serviceNames(got) != "b" {
		t.Errorf("read %+v, %v", got, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	got = nil
	record.Append(Event{Kind: ServiceRecovered, Service: "c"})
	err = events.Follow(ctx, func(more []Event) error {
		got = append(got, more...)
		switch len(got) {
		case 1:
			record.Append(Event{Kind: ServiceRecovered, Service: "d"})
		case 2:
			cancel()
		}
		return nil
	})
	if err != nil || serviceNames(got) != "c d" {
		t.Errorf("followed %+v, %v", got, err)
	}
}

func TestKinds_MatchTheUserConfig(t *testing.T) {
	var kinds []string
	for _, kind := range []Kind{ // all but EventsLost
		StateChanged, ServiceFailed, ServiceRecovered, ConfigReloaded, ConfigPending, SupervisorStarted, SupervisorEnded, ClientLimitReached, ClientLimitCleared,
	} {
		kinds = append(kinds, string(kind))
	}
	if !slices.Equal(kinds, project.EventKinds) {
		t.Errorf("events are %v, a user's config knows %v", kinds, project.EventKinds)
	}
}

func TestEventsSince_ReturnsOnlyNewerEvents(t *testing.T) {
	dir := t.TempDir()
	if got, err := EventsSince(dir, 0); err != nil || len(got) != 0 {
		t.Errorf("with no events: %+v, %v", got, err)
	}
	record := NewRecorder(dir, nil, Limits{MaxSize: 300, MaxRotated: 2})
	defer record.Close()
	for i, line := range []uint64{1, 0, 2, 2, 0, 3, 0} {
		record.Append(Event{Kind: ServiceFailed, Service: fmt.Sprint(i), PromptLine: line})
	}
	if !exists(filepath.Join(dir, eventsFileName+".1")) {
		t.Fatal("the test wants events in two files")
	}
	for line, want := range map[uint64]string{0: "0 2 3 5", 1: "2 3 5", 2: "5", 3: "", 9: ""} {
		if got, err := EventsSince(dir, line); err != nil || serviceNames(got) != want {
			t.Errorf("since line %d: %q, %v, want %q", line, serviceNames(got), err, want)
		}
	}
}

func TestEventsSince_ReadsOnlyTheEndOfTheFile(t *testing.T) {
	dir := t.TempDir()
	record := NewRecorder(dir, nil, Limits{})
	defer record.Close()
	for i := range 2000 {
		record.Append(Event{Kind: StateChanged, Service: fmt.Sprint(i), From: "starting", To: "healthy", PromptLine: uint64(i + 1)})
	}
	if got, err := EventsSince(dir, 1998); err != nil || serviceNames(got) != "1998 1999" {
		t.Errorf("the last: %q, %v", serviceNames(got), err)
	}
	got, err := EventsSince(dir, 0)
	if err != nil || len(got) < 50 || len(got) > 1000 || got[len(got)-1].Service != "1999" {
		t.Errorf("%d events, %v", len(got), err)
	}
	if !slices.IsSortedFunc(got, func(a, b Event) int { return int(a.PromptLine) - int(b.PromptLine) }) {
		t.Error("they are not in order")
	}
}

func BenchmarkSince(b *testing.B) {
	dir := b.TempDir()
	record := NewRecorder(dir, nil, Limits{})
	defer record.Close()
	for i := range 10000 {
		record.Append(Event{Kind: StateChanged, Service: "db", From: "starting", To: "healthy", PromptLine: uint64(i + 1)})
	}
	for b.Loop() {
		if got, err := EventsSince(dir, 9998); err != nil || len(got) != 2 {
			b.Fatal(len(got), err)
		}
	}
}
