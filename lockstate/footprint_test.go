package lockstate

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFootprint_IsRemovedAndNothingElse(t *testing.T) {
	setRuntimeDir(t)
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	d := useOnce(t, makeProject(t))
	requireNoError(t, PruneDirs(time.Now(), func(ScannedDir) {}))
	run, err := CreateRunDir("killed02")
	requireNoError(t, err)
	run.Release()
	socket, err := d.SocketPath()
	requireNoError(t, err)
	runtime := filepath.Dir(socket)
	theirs := []string{filepath.Join(runtime, "file"), filepath.Join(runtime, "dir"), filepath.Join(filepath.Dir(filepath.Dir(d.Path)), "file")}
	for _, path := range []string{socket, theirs[0], theirs[2]} {
		requireNoError(t, os.WriteFile(path, nil, 0o600))
	}
	requireNoError(t, os.Mkdir(theirs[1], 0o700))
	footprints, err := FindOwnedFiles()
	requireNoError(t, err)
	if got := footprints[0].Names; !slices.Equal(got, []string{projectsName, lastPruneName}) {
		t.Errorf("of the state: %q", got)
	}
	if got := footprints[1].Names; !slices.Equal(got, []string{filepath.Base(socket), "killed02"}) {
		t.Errorf("of the runtime directory: %q", got)
	}
	remove := func() {
		for _, f := range footprints {
			requireNoError(t, f.Remove())
		}
	}
	remove()
	for path, want := range map[string]bool{d.Path: true, socket: false, run.Path: false, theirs[0]: true, theirs[1]: true, theirs[2]: true} {
		if _, err := os.Lstat(path); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", path, err == nil, want)
		}
	}
	requireNoError(t, survey(t).RemoveWithLeases())
	requireNoError(t, os.Remove(theirs[2]))
	remove()
	if _, err := os.Lstat(filepath.Dir(filepath.Dir(d.Path))); !os.IsNotExist(err) {
		t.Errorf("the empty state directory is left: %v", err)
	}
}

func TestRemoveWithLeases_RemovesWhatOnlyALeaseHolds(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	d := useOnce(t, makeProject(t))
	var election *Election
	update(t, d, func(tx *Tx) (err error) {
		tx.AddLease(Lease{Kind: ShellLease, Process: Self()})
		election, err = tx.Elect()
		return err
	})
	if err := survey(t).RemoveWithLeases(); err == nil || !strings.Contains(err.Error(), d.Path+" is in use: a supervisor is running") {
		t.Errorf("with a supervisor: %v", err)
	}
	requireNoError(t, election.Resign())
	requireNoError(t, survey(t).RemoveWithLeases())
	if _, err := os.Stat(d.Path); !os.IsNotExist(err) {
		t.Error(err)
	}
}

func TestRemove_KeepsADirectoryWithAProject(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	d := useOnce(t, makeProject(t))
	config := filepath.Join(d.Path, "shop", configName)
	requireNoError(t, os.Mkdir(filepath.Dir(config), 0o700))
	requireNoError(t, os.WriteFile(config, nil, 0o600))
	if err := survey(t).Remove(); err == nil || !strings.HasPrefix(err.Error(), config+" is not removed") {
		t.Errorf("the error is %v", err)
	}
	if _, err := os.Stat(config); err != nil {
		t.Error(err)
	}
}
