// Package fakekubectl is a replacement for kubectl in tests: a process that prints kubectl's exact lines, forwards as kubectl does, and
// fails as a script says that a test writes.
package fakekubectl

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// ScriptVariable is the environment variable with the path of the script.
const ScriptVariable = "LOCALPORT_FAKEKUBECTL"

// Script says what the fake kubectl does. It reads its script at its start and again at every connection. The zero Script forwards
// to the remote port on 127.0.0.1.
type Script struct {
	// Backend is the address of the server in the pod. If it refuses a connection, the fake reports that and ends, as kubectl does.
	Backend string
	// StartError is printed on stderr at the start, and the fake ends with exit code 1.
	StartError string
	// NeverReady prints nothing and does not listen, as kubectl while there is no pod.
	NeverReady bool
	// IsPodDeleted closes the next connection, reports that the pod is gone, and ends.
	IsPodDeleted bool
	// StreamTimesOut is an API server that does not answer: it reports that no stream can be created, and goes on. The fake does so at
	// once, kubectl after 30 s.
	StreamTimesOut bool
	// ReportAfterFIFO is the path of a FIFO that is read to its end before a failed connection is reported.
	ReportAfterFIFO string
	// Answers has what other commands print, by their arguments, joined with spaces.
	Answers map[string]string
}

// Kubectl is an installed fake kubectl.
type Kubectl struct {
	Dir    string // the directory with the program "kubectl"
	script string // the path of the script
}

// Install makes a directory with a program kubectl, which is removed with the test. The program is the test's own binary, whose
// TestMain must call Main if IsKubectl returns true.
func Install(t testing.TB, script Script) *Kubectl {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	k := &Kubectl{Dir: dir, script: filepath.Join(dir, "script.json")}
	if err := os.Symlink(self, filepath.Join(dir, "kubectl")); err != nil {
		t.Fatal(err)
	}
	k.SetScript(t, script)
	return k
}

// Env returns this process's environment with this kubectl first in PATH.
func (k *Kubectl) Env() []string {
	return append(os.Environ(), "PATH="+k.Dir+":"+os.Getenv("PATH"), ScriptVariable+"="+k.script)
}

// SetScript replaces the script, for new processes and for new connections of those that run.
func (k *Kubectl) SetScript(t testing.TB, script Script) {
	t.Helper()
	data, err := json.Marshal(script)
	if err == nil {
		err = os.WriteFile(k.script+".new", data, 0o600)
	}
	if err == nil {
		err = os.Rename(k.script+".new", k.script)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Start is one start of the fake kubectl.
type Start struct {
	PID  int
	Args []string // without the program's name
}

// Starts returns the starts so far, oldest first.
func (k *Kubectl) Starts(t testing.TB) []Start {
	t.Helper()
	data, err := os.ReadFile(k.script + ".starts")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var all []Start
	for line := range strings.Lines(string(data)) {
		var start Start
		if err := json.Unmarshal([]byte(line), &start); err != nil {
			t.Fatal(err)
		}
		all = append(all, start)
	}
	return all
}

// DeletePod does to the fake that was started last what deleting its pod does to kubectl: its connections are closed, it goes on, and
// it ends at its next connection.
func (k *Kubectl) DeletePod(t testing.TB) {
	t.Helper()
	k.SetScript(t, Script{IsPodDeleted: true})
	starts := k.Starts(t)
	if len(starts) == 0 {
		t.Fatal("kubectl was not started")
	}
	if err := syscall.Kill(starts[len(starts)-1].PID, syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
}

// readScript returns the current script, the zero Script if no test wrote one.
func readScript() (Script, error) {
	var script Script
	path := os.Getenv(ScriptVariable)
	if path == "" {
		return script, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return script, fmt.Errorf("read script: %w", err)
	}
	return script, json.Unmarshal(data, &script)
}

// recordStart records this start for Starts.
func recordStart(args []string) error {
	path := os.Getenv(ScriptVariable)
	if path == "" {
		return nil
	}
	line, err := json.Marshal(Start{PID: os.Getpid(), Args: args})
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path+".starts", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(append(line, '\n'))
	return errors.Join(err, file.Close())
}
