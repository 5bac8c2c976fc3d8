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

	"github.com/localport-sh/localport/forwarder/memtrim"
)

// resources are what a process uses; sizes are in kB. goroutines and heap are 0 for other programs than localport.
type resources struct {
	files, threads, goroutines int
	memory, anonymous, heap    int // kB: resident (VmRSS), resident and not of a file (RssAnon), allocated
}

func (r resources) String() string {
	return fmt.Sprintf("%d files, %d threads, %d kB resident, of it %d anonymous, %d goroutines, %d kB of heap",
		r.files, r.threads, r.memory, r.anonymous, r.goroutines, r.heap)
}

// readResources reads a process's resources from /proc.
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
		_, _ = fmt.Sscanf(line, "RssAnon: %d", &r.anonymous)
	}
	return r
}

// checkWithin fails the test if one of the resources is larger than before by more than its margin.
func (r resources) checkWithin(t testing.TB, who string, before, margin resources) {
	t.Helper()
	for _, resource := range []struct {
		what                string
		now, before, margin int
	}{
		{"files", r.files, before.files, margin.files},
		{"threads", r.threads, before.threads, margin.threads},
		{"kB resident", r.memory, before.memory, margin.memory},
		{"goroutines", r.goroutines, before.goroutines, margin.goroutines},
		{"kB of heap", r.heap, before.heap, margin.heap},
	} {
		if resource.now > resource.before+resource.margin {
			t.Errorf("%s: %d %s, after %d", who, resource.now, resource.what, resource.before)
		}
	}
}

// resourcesVariable makes every localport of a testEnv write its goroutines and heap to a file in this directory when it receives
// SIGUSR1. It trims its memory before, because that would otherwise depend on when it happened last.
const resourcesVariable = "LOCALPORT_TEST_RESOURCES"

// writeResources writes the file at each SIGUSR1.
func writeResources(dir string) {
	signalCh := make(chan os.Signal, 1)
	signal.Notify(signalCh, syscall.SIGUSR1)
	path := filepath.Join(dir, fmt.Sprint(os.Getpid()))
	for range signalCh {
		runtime.GC() // with the one in Trim it empties every sync.Pool
		memtrim.Trim()
		var mem runtime.MemStats
		runtime.ReadMemStats(&mem)
		_ = os.WriteFile(path+".new", fmt.Appendln(nil, runtime.NumGoroutine(), mem.HeapAlloc>>10), 0o600)
		_ = os.Rename(path+".new", path)
	}
}

// reportedResources returns the resources of a localport with resourcesVariable; with the race detector without its memory.
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
	eventually(w.t, "the process has written its resources", func() bool {
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

// raceDetected reports whether this program is built with the race detector, which never gives back its shadow memory.
func raceDetected() bool {
	info, _ := debug.ReadBuildInfo()
	return slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
