package edit

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// checkDir checks that a directory has only these files, with these contents.
func checkDir(t testing.TB, dir string, want map[string]string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if wanted, ok := want[entry.Name()]; !ok || err != nil || string(text) != wanted {
			t.Errorf("%s: %q, %v; want %q", entry.Name(), text, err, wanted)
		}
	}
	if len(entries) != len(want) {
		t.Errorf("%v, want %d files", entries, len(want))
	}
}

func TestReplace_KeepsModeAndOwner(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "config")
	write(t, path, "before")
	if err := os.Chmod(path, 0o644|fs.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		if err := os.Chown(path, 1234, 4321); err != nil {
			t.Fatal(err)
		}
	}
	before := stat(t, path)
	if err := Replace(path, []byte("before"), []byte("after")); err != nil {
		t.Fatal(err)
	}
	after := stat(t, path)
	if before.Mode() != after.Mode() || owner(before) != owner(after) {
		t.Errorf("%v of %v has become %v of %v", before.Mode(), owner(before), after.Mode(), owner(after))
	}
	checkDir(t, dir, map[string]string{"config": "after"})
}

// Two at once make a file, in many directories: exactly one of them does.
func TestCreate_NeverReplacesAFile(t *testing.T) {
	t.Parallel()
	for range 50 {
		dir := t.TempDir()
		path := filepath.Join(dir, "config")
		var group sync.WaitGroup
		errs := make([]error, 2)
		for i := range errs {
			group.Go(func() { errs[i] = Create(path, []byte(strconv.Itoa(i)), 0o640) })
		}
		group.Wait()
		made := "0"
		if errs[0] != nil {
			made = "1"
		}
		if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs...), ErrChanged) {
			t.Fatalf("errors %v", errs)
		}
		if err := Create(path, []byte("x"), 0o640); !errors.Is(err, ErrChanged) {
			t.Fatalf("a third: %v", err)
		}
		checkDir(t, dir, map[string]string{"config": made})
		if mode := stat(t, path).Mode(); mode&^0o640 != 0 {
			t.Fatalf("mode %v", mode)
		}
	}
}

// A file system without links: the first of two programs writes the file.
func TestPublish_WithoutLinksReplacesNoFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "config")
	for i, want := range []error{nil, ErrChanged} {
		pending, err := newPending(path, true, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pending.WriteString(strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
		if err := publishWithoutLink(pending, path); !errors.Is(err, want) {
			t.Errorf("file %d: %v", i, err)
		}
		if err := pending.Cleanup(); err != nil {
			t.Error(err)
		}
	}
	checkDir(t, dir, map[string]string{"config": "0"})
}

// Another program makes the file after it was checked that there is none.
func TestPublish_LeavesTheFileOfAnotherProgram(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "config")
	pending, err := newPending(path, true, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, "theirs")
	if err := publish(pending, path); !errors.Is(err, ErrChanged) {
		t.Errorf("%v", err)
	}
	if err := pending.Cleanup(); err != nil {
		t.Fatal(err)
	}
	checkDir(t, dir, map[string]string{"config": "theirs"})
}

func TestReplace_FollowsSymbolicLinks(t *testing.T) {
	t.Parallel()
	dir, elsewhere := t.TempDir(), t.TempDir()
	write(t, filepath.Join(elsewhere, "target"), "before")
	link := filepath.Join(dir, "config")
	if err := os.Symlink(filepath.Join(elsewhere, "target"), link); err != nil {
		t.Fatal(err)
	}
	if err := Replace(link, []byte("before"), []byte("after")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link: %v, %v", info, err)
	}
	checkDir(t, elsewhere, map[string]string{"target": "after"})
}

func TestReplace_OverwritesNoOtherText(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "config")
	write(t, path, "someone else's")
	for _, before := range [][]byte{[]byte("before"), nil, {}} {
		if err := Replace(path, before, []byte("after")); !errors.Is(err, ErrChanged) {
			t.Errorf("%q: %v", before, err)
		}
	}
	if err := Create(path, []byte("after"), 0o644); !errors.Is(err, ErrChanged) {
		t.Errorf("a file that exists: %v", err)
	}
	checkDir(t, dir, map[string]string{"config": "someone else's"})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := Replace(path, []byte{}, []byte("after")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a deleted file: %v", err)
	}
	if err := Create(path, []byte("new"), 0o600); err != nil {
		t.Error(err)
	}
	checkDir(t, dir, map[string]string{"config": "new"})
	if mode := stat(t, path).Mode(); mode != 0o600 {
		t.Errorf("the mode is %v", mode)
	}
}

func TestReplace_LosesNoConcurrentChange(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config")
	write(t, path, "0")
	var changes atomic.Int64
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 20 {
				before, err := os.ReadFile(path)
				if err != nil {
					t.Error(err)
					return
				}
				n, _ := strconv.Atoi(string(before))
				switch err := Replace(path, before, []byte(strconv.Itoa(n+1))); {
				case err == nil:
					changes.Add(1)
				case !errors.Is(err, ErrChanged):
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if text, err := os.ReadFile(path); err != nil || string(text) != strconv.FormatInt(changes.Load(), 10) {
		t.Errorf("%d changes, and the file is %q: %v", changes.Load(), text, err)
	}
}

func stat(t testing.TB, path string) fs.FileInfo {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func owner(info fs.FileInfo) [2]uint32 {
	stat := info.Sys().(*syscall.Stat_t)
	return [2]uint32{stat.Uid, stat.Gid}
}
