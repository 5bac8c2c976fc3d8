package edit

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// smallDisk returns the directory of a small file system of its own.
func smallDisk(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("mount tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill fills the disk with a file.
func fill(t testing.TB, path string) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for chunk := make([]byte, 4096); err == nil; {
		_, err = file.Write(chunk)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}

func makeReadOnly(t testing.TB, dir string) {
	t.Helper()
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
}

func TestReplace_FullDiskLeavesTheFileNamespace(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t)
	path := filepath.Join(dir, "config")
	write(t, path, "before")
	filling := filepath.Join(dir, "filling")
	fill(t, filling)
	err := Replace(path, []byte("before"), []byte(strings.Repeat("after", 5000)))
	if failed, ok := errors.AsType[*fs.PathError](err); !ok || failed.Path != path {
		t.Errorf("%v", err)
	}
	if err := os.Remove(filling); err != nil {
		t.Fatal(err)
	}
	checkDir(t, dir, map[string]string{"config": "before"})
}

func TestReplace_ReadOnlyDiskLeavesTheFileNamespace(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t)
	path := filepath.Join(dir, "config")
	write(t, path, "before")
	makeReadOnly(t, dir)
	err := Replace(path, []byte("before"), []byte("after"))
	if failed, ok := errors.AsType[*fs.PathError](err); !ok || failed.Path != path {
		t.Errorf("%v", err)
	}
	checkDir(t, dir, map[string]string{"config": "before"})
}
