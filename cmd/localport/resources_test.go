package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// resources are what a process has of what can run out; the sizes are in kB. Of a program that is not ours it is not known how
// many goroutines it has, and how large a heap.
type resources struct{ files, threads, memory, goroutines, heap int }

func (r resources) String() string {
	return fmt.Sprintf("%d files, %d threads, %d kB resident, %d goroutines, %d kB of heap", r.files, r.threads, r.memory, r.goroutines, r.heap)
}

// readResources are those of a process, as /proc has them.
func readResources(t testing.TB, pid int) resources {
	t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	r := resources{files: len(files)}
	for line := range strings.Lines(string(status)) {
		_, _ = fmt.Sscanf(line, "Threads: %d", &r.threads)
		_, _ = fmt.Sscanf(line, "VmRSS: %d", &r.memory)
	}
	return r
}

// checkWithin fails the test if one of the holdings is larger than it was, by more than a margin.
func (r resources) checkWithin(t testing.TB, who string, before, margin resources) {
	t.Helper()
	for _, of := range []struct {
		what                string
		now, before, margin int
	}{
		{"files", r.files, before.files, margin.files},
		{"threads", r.threads, before.threads, margin.threads},
		{"kB resident", r.memory, before.memory, margin.memory},
		{"goroutines", r.goroutines, before.goroutines, margin.goroutines},
		{"kB of heap", r.heap, before.heap, margin.heap},
	} {
		if of.now > of.before+of.margin {
			t.Errorf("%s: %d %s, after %d", who, of.now, of.what, of.before)
		}
	}
}

// resourcesVariable has every localport of a world write its holdings to a file in this directory when it is sent SIGUSR1, after it
// has given back all that it need not hold: without that, what Go holds is for its collector to say.
const resourcesVariable = "LOCALPORT_TEST_RESOURCES"

// writeResources writes the holdings whenever they are asked for.
func writeResources(dir string) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	path := filepath.Join(dir, fmt.Sprint(os.Getpid()))
	for range asked {
		runtime.GC() // what lies in a pool is let go of by the second
		debug.FreeOSMemory()
		var mem runtime.MemStats
		runtime.ReadMemStats(&mem)
		_ = os.WriteFile(path+".new", fmt.Appendln(nil, runtime.NumGoroutine(), mem.HeapAlloc>>10), 0o600)
		_ = os.Rename(path+".new", path)
	}
}

// reportedResources are those of a localport of this world; its memory only where that is its own.
func (w *testEnv) reportedResources(pid int) resources {
	w.t.Helper()
	path := ""
	for _, entry := range w.env {
		if dir, found := strings.CutPrefix(entry, resourcesVariable+"="); found {
			path = filepath.Join(dir, fmt.Sprint(pid))
		}
	}
	if err := syscall.Kill(pid, syscall.SIGUSR1); err != nil {
		w.t.Fatal(err)
	}
	var reported resources
	eventually(w.t, "it tells what it holds", func() bool {
		data, _ := os.ReadFile(path)
		n, _ := fmt.Sscan(string(data), &reported.goroutines, &reported.heap)
		return n == 2
	})
	_ = os.Remove(path)
	r := readResources(w.t, pid)
	r.goroutines, r.heap = reported.goroutines, reported.heap
	if raceDetected() {
		r.memory = 0
	}
	return r
}

// raceDetected reports whether this is built with the race detector, which keeps memory of its own for whatever memory there
// ever was.
func raceDetected() bool {
	info, _ := debug.ReadBuildInfo()
	return slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
