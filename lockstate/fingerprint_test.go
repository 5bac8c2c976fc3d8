package lockstate

import (
	"reflect"
	"testing"
)

// A supervisor takes and compares fingerprints every second: the code and constants that this needs stay in its memory.
func TestFingerprint_JoinsNoPaths(t *testing.T) {
	d := openTestDir(t)
	const files = 4 // each path is copied for the system call
	if n := testing.AllocsPerRun(100, func() { d.Fingerprint() }); n > files {
		t.Errorf("%v allocations for %d files", n, files)
	}
}

func TestFileID_HasNoPadding(t *testing.T) {
	id := reflect.TypeFor[FileID]()
	var size uintptr
	for f := range id.Fields() {
		size += f.Type.Size()
	}
	if size != id.Size() {
		t.Errorf("%d of %d bytes are fields", size, id.Size())
	}
}
