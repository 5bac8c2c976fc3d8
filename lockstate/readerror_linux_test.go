package lockstate

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// If the disk fails to read the state, the state must not be recreated. /proc/self/mem is a regular file whose first page gives EIO.
func TestUpdate_InputOutputErrorLosesNothing(t *testing.T) {
	d := openTestDir(t)
	update(t, d, incrementCount)
	path := d.path("state.json")
	saved := path + ".saved"
	requireNoError(t, os.Rename(path, saved))
	requireNoError(t, os.Symlink("/proc/self/mem", path))
	_, err := d.Update(t.Context(), func(*Tx) error { t.Error("the change is applied"); return nil })
	_, readErr := d.Read()
	for _, err := range []error{err, readErr} {
		if !errors.Is(err, unix.EIO) || !strings.Contains(err.Error(), path) {
			t.Errorf("got %v, want an input/output error that names %s", err, path)
		}
	}
	requireNoError(t, os.Rename(saved, path))
	if state := update(t, d, incrementCount); state.Ports["count"] != 2 {
		t.Errorf("count %d, want 2", state.Ports["count"])
	}
}
