package lockstate

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// setRuntimeDir sets a new runtime directory for the test.
func setRuntimeDir(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "lprun") //nolint:usetesting // t.TempDir is too long for the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	t.Setenv("XDG_RUNTIME_DIR", dir)
}

func TestRunDir_IsRemovedOnlyWhenItsSupervisorIsDead(t *testing.T) {
	setRuntimeDir(t)
	held, err := CreateRunDir("heldrun1")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Remove() }()
	killed, err := CreateRunDir("killed01")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(killed.Path, "socket"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	killed.Release() // as the system does for a process that is killed
	older := filepath.Join(filepath.Dir(held.Path), "olderrun")
	if err := os.Mkdir(older, 0o700); err != nil {
		t.Fatal(err)
	}
	var found []string
	if err := RemoveAbandonedRunDirs(func(run string) { found = append(found, run) }); err != nil {
		t.Error(err)
	}
	if !slices.Equal(found, []string{"killed01"}) {
		t.Errorf("found %v, want [killed01]", found)
	}
	for path, want := range map[string]bool{held.Path: true, older: true, killed.Path: false} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", filepath.Base(path), err == nil, want)
		}
	}
	if err := held.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(held.Path); !os.IsNotExist(err) {
		t.Errorf("stat after Remove: %v", err)
	}
}

func TestRunDir_LinkToALockIsIgnored(t *testing.T) {
	setRuntimeDir(t)
	dir, err := RuntimeDir()
	if err != nil {
		t.Fatal(err)
	}
	run := filepath.Join(dir, "linkedrn")
	target := filepath.Join(t.TempDir(), "file")
	for _, err := range []error{os.Mkdir(run, 0o700), os.WriteFile(target, nil, 0o600), os.Symlink(target, filepath.Join(run, runLockName))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := RemoveAbandonedRunDirs(func(run string) { t.Errorf("found %s", run) }); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(run); err != nil {
		t.Error(err)
	}
}
