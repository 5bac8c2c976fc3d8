package lockstate

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestRunProcesses_AreThoseThatStillRun(t *testing.T) {
	setRuntimeDir(t)
	run, err := CreateRunDir("runwithp")
	requireNoError(t, err)
	tunnel := filepath.Join(run.Path, "tunnel")
	requireNoError(t, os.Mkdir(tunnel, 0o700))
	requireNoError(t, RecordRunProcesses(tunnel, []Process{Self(), {PID: os.Getpid(), Start: 1}, {PID: 1, Start: 5}, {PID: 1 << 30, Start: 1}}))
	if got := RecordedRunProcesses("runwithp"); !slices.Equal(got, []Process{Self()}) {
		t.Errorf("recorded %v, want this process", got)
	}
	path := filepath.Join(tunnel, runProcessesName)
	for _, record := range []string{"{", `{"boot":"another","processes":[{"pid":2,"start":3}]}`} {
		requireNoError(t, os.WriteFile(path, []byte(record), 0o600))
		if got := RecordedRunProcesses("runwithp"); len(got) > 0 {
			t.Errorf("of %q: %v", record, got)
		}
	}
	for _, name := range []string{"", ".", "..", "a/b", "../" + filepath.Base(run.Path)} { // it was read from a file
		if got := RecordedRunProcesses(name); len(got) > 0 {
			t.Errorf("of %q: %v", name, got)
		}
		requireNoError(t, RemoveRunDir(name))
	}
	if _, err := os.Stat(run.Path); err != nil {
		t.Fatal(err)
	}
	requireNoError(t, RemoveRunDir("runwithp"))
	if _, err := os.Stat(run.Path); !os.IsNotExist(err) {
		t.Errorf("stat after RemoveRunDir: %v", err)
	}
	run.Release()
}
