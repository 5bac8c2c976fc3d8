package eventlog

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// writtenRun is a run's output in its log.
type writtenRun struct {
	texts   []string // the lines, without the notices
	omitted int      // the sum of what the notices say
	notices int
}

func readRun(t *testing.T, path string) (found writtenRun) {
	t.Helper()
	reader := NewLogReader("db", path)
	defer reader.Close()
	lines, err := reader.Read()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		var n int
		if count, _ := fmt.Sscanf(line.Text, "%d short lines are left out", &n); count == 1 && line.Run == "" {
			found.omitted += n
			found.notices++
			continue
		}
		found.texts = append(found.texts, line.Text)
	}
	return found
}

func numberedLines(first, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintln(&b, first+i)
	}
	return b.String()
}

func TestRunWriter_OfAFloodOfShortLinesAPartIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "db.log")
		file := NewFile(path, nil, Limits{MaxSize: 1 << 30})
		defer file.Close()
		run := file.RunWriter("run.1")
		const perRead, reads = 10_000, 50
		for i := range reads {
			fmt.Fprint(run, numberedLines(i*perRead, perRead))
		}
		found := readRun(t, path)
		if len(found.texts)+found.omitted != perRead*reads || found.notices == 0 {
			t.Errorf("%d lines are written, %d are left out by %d notices", len(found.texts), found.omitted, found.notices)
		}
		if len(found.texts) < maxLineBurst || len(found.texts) > maxLineBurst*2 {
			t.Errorf("%d lines are written", len(found.texts))
		}
		previous := -1
		for _, text := range found.texts {
			var n int
			if _, err := fmt.Sscan(text, &n); err != nil || n <= previous {
				t.Fatalf("%q comes after %d", text, previous)
			}
			previous = n
		}
		for i := range minKeptLines { // they may say why a program ends
			if got, want := found.texts[len(found.texts)-1-i], fmt.Sprint(perRead*reads-1-i); got != want {
				t.Errorf("the line %d before the last is %s, want %s", i, got, want)
			}
		}
		time.Sleep(time.Minute)
		fmt.Fprint(run, numberedLines(perRead*reads, maxLineBurst))
		if later := readRun(t, path); len(later.texts) != len(found.texts)+maxLineBurst || later.omitted != found.omitted {
			t.Errorf("after a minute: %d lines more, %d are left out", len(later.texts)-len(found.texts), later.omitted-found.omitted)
		}
	})
}

func TestRunWriter_LinesOfUsualLengthAreNotLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "db.log")
		file := NewFile(path, nil, Limits{MaxSize: 1 << 30})
		defer file.Close()
		run := file.RunWriter("run.1")
		piece := strings.Repeat(strings.Repeat("x", shortLineBytes-1)+"\n", 1000)
		const reads = 3 * maxLineBurst / 1000
		for range reads {
			fmt.Fprint(run, piece)
		}
		if found := readRun(t, path); len(found.texts) != reads*1000 || found.omitted != 0 {
			t.Errorf("%d lines are written, %d are left out", len(found.texts), found.omitted)
		}
	})
}
