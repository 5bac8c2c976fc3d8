package command

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/project"
)

// writeCalls returns how many write system calls this process has made (proc(5), /proc/pid/io).
func writeCalls(t *testing.T) (n int) {
	t.Helper()
	data, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(data)) {
		if _, err := fmt.Sscanf(line, "syscw: %d", &n); err == nil {
			return n
		}
	}
	t.Fatalf("no number of write calls in\n%s", data)
	return 0
}

// What a program prints costs no allocation and no system call for each line: 100 MB of short lines are six million lines. BenchmarkOutput measures the
// time.
func TestCounts_OutputOf100MB(t *testing.T) {
	const length = 16
	size := 100_000_000
	info, _ := debug.ReadBuildInfo()
	isRaceDetected := slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
	if isRaceDetected {
		size /= 20 // each line takes many times as long
	}
	generate := fmt.Sprintf("yes '%s' | head -c %d", strings.Repeat("e", length-2)+"1", size)
	log := eventlog.NewFile(filepath.Join(t.TempDir(), "db.log"), func(text string) string { return project.Mask(text, []string{"hunter22", "correct horse"}) }, eventlog.Limits{})
	tunnel := &tunnel{log: log.RunWriter("run.1")}
	reads := 0
	handleLines := func(stream process.Stream, lines []byte) {
		reads++
		tunnel.handleLines(stream, lines)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	calls := writeCalls(t)
	program, err := process.Start(process.Command{Argv: []string{"sh", "-c", generate}, Env: os.Environ(), OnLines: handleLines})
	if err != nil {
		t.Fatal(err)
	}
	<-program.Done()
	calls = writeCalls(t) - calls
	runtime.ReadMemStats(&after)
	log.Close()
	allocations := int(after.Mallocs - before.Mallocs)
	t.Logf("%d reads, %d allocations, %d write calls", reads, allocations, calls)
	// head writes blocks of at least 4 kB, and a read takes all that is there.
	if limit := size / 4096; reads > limit {
		t.Errorf("%d reads, limit %d", reads, limit)
	}
	if limit := size / length / 100; allocations > limit && !isRaceDetected || calls > limit { // with the race detector, sync.Pool forgets at random
		t.Errorf("%d allocations and %d write calls for %d lines, limit %d", allocations, calls, size/length, limit)
	}
}
