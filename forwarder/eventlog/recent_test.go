package eventlog

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRecentLines_AreTheWholeLinesAtTheEnd(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "web.log")
	if lines, err := RecentLines("web", path, 100); len(lines) > 0 || err != nil {
		t.Errorf("without a file: %v, %v", lines, err)
	}
	now := time.Date(2026, 11, 23, 3, 4, 5, 0, time.UTC)
	text := strings.Repeat("x", 200) + "\n" + formatLine(now, "WARN", "run.7", "slow") + "continued\n" + "being wri"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	lines, err := RecentLines("web", path, 100)
	if err != nil || len(lines) != 2 {
		t.Fatalf("got %v, %v", lines, err)
	}
	if lines[0].Text != "slow" || lines[1].Text != "continued" || lines[1].Level != slog.LevelWarn || !lines[1].Time.Equal(now) {
		t.Errorf("got %+v", lines)
	}
	whole, err := RecentLines("web", path, 1<<20)
	if err != nil || len(whole) != 3 {
		t.Errorf("the whole file: %v, %v", whole, err)
	}
}

func TestRecentEvents_AreTheLastOnes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if events, err := RecentEvents(dir, 1<<10); events != nil || err != nil {
		t.Errorf("without a file: %v, %v", events, err)
	}
	recorder := NewRecorder(dir, maskPassword, Limits{})
	for range 50 {
		recorder.Append(Event{Kind: StateChanged, Service: "web", To: "healthy"})
	}
	recorder.Append(Event{Kind: ServiceFailed, Service: "web", Reason: "gone"})
	if err := recorder.Close(); err != nil {
		t.Fatal(err)
	}
	events, err := RecentEvents(dir, 500)
	if err != nil || len(events) < 2 || len(events) > 10 || events[len(events)-1].Reason != "gone" {
		t.Errorf("got %v, %v", events, err)
	}
}
