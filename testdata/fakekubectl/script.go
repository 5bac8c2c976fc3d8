// Package fakekubectl plays kubectl: a process that speaks kubectl's exact lines, forwards as it does and fails in
// the ways in which it fails, by a script that a test writes.
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

// Variable holds, in the environment of a player, the path of its script.
const Variable = "LOCALPORT_FAKEKUBECTL"

// Script is what a player does. It is read at its start and again at every connection. The zero Script forwards to
// the remote port on 127.0.0.1.
type Script struct {
	// Backend is what runs in the pod: an address that connections go to. Where it refuses, the player says so and
	// ends, as kubectl does.
	Backend string
	// Fail is printed on stderr at the start, which then fails.
	Fail string
	// Mute stays silent for ever at the start, as kubectl does while there is no pod.
	Mute bool
	// Gone is a pod that was deleted: the next connection gets an end of file, then kubectl says so and ends.
	Gone bool
	// Stuck is an API server that does not answer: a stream cannot be made. The player says so at once, where
	// kubectl takes 30 s, and stays.
	Stuck bool
	// Late is a fifo that is read to its end before a failed connection is reported.
	Late string
	// Answers are what other commands print, by their arguments joined with spaces.
	Answers map[string]string
}

// Kubectl is a kubectl on a PATH, for one test.
type Kubectl struct {
	Dir    string // holds the program "kubectl"
	script string
}

// Install puts a kubectl into a new folder: the test's own binary, whose TestMain must call Main where IsKubectl says so.
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

// Env is the environment with this kubectl first on the PATH.
func (k *Kubectl) Env() []string {
	return append(os.Environ(), "PATH="+k.Dir+":"+os.Getenv("PATH"), Variable+"="+k.script)
}

// SetScript changes the script, for new players and for new connections of those that run.
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

// Start is one start of a player.
type Start struct {
	PID  int
	Args []string // without the program's name
}

// Starts are the starts so far, oldest first.
func (k *Kubectl) Starts(t testing.TB) []Start {
	t.Helper()
	data, err := os.ReadFile(k.script + ".starts")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var all []Start
	for line := range strings.Lines(string(data)) {
		var one Start
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
	return all
}

// DeletePod does what deleting the pod does to the player that started last: its connections end, it does not notice,
// and its next connection will be its last.
func (k *Kubectl) DeletePod(t testing.TB) {
	t.Helper()
	k.SetScript(t, Script{Gone: true})
	starts := k.Starts(t)
	if len(starts) == 0 {
		t.Fatal("kubectl was not started")
	}
	if err := syscall.Kill(starts[len(starts)-1].PID, syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
}

// read is the script as it stands; the zero one where there is none.
func read() (Script, error) {
	var script Script
	path := os.Getenv(Variable)
	if path == "" {
		return script, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return script, fmt.Errorf("read script: %w", err)
	}
	return script, json.Unmarshal(data, &script)
}

// record notes a start for Starts.
func record(args []string) error {
	path := os.Getenv(Variable)
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
