//go:build linux

package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// wake is a time in which a process that is idle otherwise does something.
type wake struct {
	at    float64 // in seconds since the trace began
	calls map[string]int
}

// maxGap is the longest time without a system call within one wake, in seconds.
const maxGap = 0.2

// parseWakes reads the output of strace -f -ttt, and leaves out what happens in the first seconds.
func parseWakes(trace string, settleTime float64) (wakes []wake) {
	var start, last float64
	for line := range strings.Lines(trace) {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			continue
		}
		at, err := strconv.ParseFloat(fields[1], 64)
		if err != nil {
			continue
		}
		if start == 0 {
			start = at
		}
		if at-start < settleTime {
			continue
		}
		if last == 0 || at-last > maxGap {
			wakes = append(wakes, wake{at - start, map[string]int{}})
		}
		last = at
		if name, _, isCall := strings.Cut(fields[2], "("); isCall {
			wakes[len(wakes)-1].calls[name]++
		}
	}
	return wakes
}

// String names the calls, the most frequent first.
func (w wake) String() string {
	names := slices.SortedFunc(maps.Keys(w.calls), func(a, b string) int {
		if w.calls[a] != w.calls[b] {
			return w.calls[b] - w.calls[a]
		}
		return strings.Compare(a, b)
	})
	text := fmt.Sprintf("%4.0f s:", w.at)
	for _, name := range names {
		text += fmt.Sprintf(" %d %s", w.calls[name], name)
	}
	return text
}

// traceWakes traces a process for a time, of which it leaves out the first seconds. The caller skips its test if there is no strace.
func traceWakes(t testing.TB, pid int, window time.Duration, settleTime float64) []wake {
	t.Helper()
	path := filepath.Join(t.TempDir(), "trace")
	out, err := exec.Command("timeout", "--signal=INT", fmt.Sprint(window.Seconds()), "strace", "-f", "-qq", "-ttt", "-o", path, "-p", fmt.Sprint(pid)).CombinedOutput()
	data, readErr := os.ReadFile(path)
	if readErr != nil || len(data) == 0 {
		t.Errorf("strace: %v, %v\n%s", err, readErr, out)
	}
	return parseWakes(string(data), settleTime)
}

// TestCounts_IdleSupervisorWakes limits how often an idle supervisor and its keeper do anything, while other programs write to the directory above the
// project and to other files of the project. The log shows what each wake is for.
func TestCounts_IdleSupervisorWakes(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed")
	}
	const services, window, settleTime = 20, 45 * time.Second, 8
	w := newTestEnv(t)
	root := filepath.Join(w.project(""), "shop")
	upstream := serve(t, "127.0.0.1:0")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	w.writeFile(root, ".localport.toml", tcpServices(services, upstream))
	log, above := filepath.Join(root, "build.log"), filepath.Dir(root)
	for _, path := range []string{log, filepath.Join(above, "other")} {
		w.writeFile(filepath.Dir(path), filepath.Base(path), "x")
	}
	w.mustRun(root, "allow")
	w.mustRun(root, "start")
	w.waitKeeper(root)
	supervisor := w.state(root).Supervisor
	var supervisorWakes, keeperWakes []wake
	var tracing sync.WaitGroup
	tracing.Go(func() { supervisorWakes = traceWakes(t, supervisor.PID, window, settleTime) })
	tracing.Go(func() { keeperWakes = traceWakes(t, supervisor.Keeper, window, settleTime) })
	doneCh := make(chan struct{})
	go func() { defer close(doneCh); tracing.Wait() }()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	writes := 0
	for isDone := false; !isDone; {
		select {
		case <-tick.C:
			writes++
			w.writeFile(root, "build.log", "more")
			w.writeFile(above, "other", "more")
			w.writeFile(above, "new", "x")
			if err := os.Remove(filepath.Join(above, "new")); err != nil {
				t.Error(err)
			}
		case <-doneCh:
			isDone = true
		}
	}
	for _, p := range []struct {
		name  string
		wakes []wake
		limit int
	}{
		{"supervisor", supervisorWakes, 6}, // two for all that is done each half minute; the runtime's; one of memtrim
		{"keeper", keeperWakes, 4},         // the runtime's; one of memtrim
	} {
		t.Logf("the %s woke %d times in %v, while others wrote %d times:", p.name, len(p.wakes), window-settleTime*time.Second, 4*writes)
		for _, wake := range p.wakes {
			t.Log(wake)
		}
		if len(p.wakes) > p.limit {
			t.Errorf("the %s woke %d times, limit %d", p.name, len(p.wakes), p.limit)
		}
	}
}
