package project

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// physicalTempDir is t.TempDir without symbolic links, which macOS has in it.
func physicalTempDir(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestFind_ReturnsTheNearestRoot(t *testing.T) {
	top := physicalTempDir(t)
	write(t, filepath.Join(top, ConfigName), "")
	write(t, filepath.Join(top, "inner", ConfigName), "")
	deep := filepath.Join(top, "inner", "a", "b")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{top: top, deep: filepath.Join(top, "inner"), filepath.Dir(deep): filepath.Join(top, "inner")} {
		if root, tried, err := Find(dir); root != want || err != nil || tried[0] != dir || tried[len(tried)-1] != want {
			t.Errorf("Find(%s) = %s, %v, %v; want %s", dir, root, tried, err, want)
		}
	}
}

func TestFind_ResolvesSymbolicLinks(t *testing.T) {
	top := physicalTempDir(t)
	write(t, filepath.Join(top, "real", ConfigName), "")
	write(t, filepath.Join(top, "real", "sub", "x"), "")
	for link, target := range map[string]string{"link": "real", "sub": filepath.Join("real", "sub")} {
		if err := os.Symlink(target, filepath.Join(top, link)); err != nil {
			t.Fatal(err)
		}
	}
	want := filepath.Join(top, "real")
	for _, dir := range []string{"link", "link/sub", "sub"} {
		if root, _, err := Find(filepath.Join(top, dir)); root != want || err != nil {
			t.Errorf("Find(%s) = %s, %v; want %s", dir, root, err, want)
		}
	}
	f, err := ReadFiles(filepath.Join(top, "link", ConfigName))
	if err != nil || f.Root != want || f.Path != filepath.Join(want, ConfigName) {
		t.Errorf("ReadFile: %+v, %v", f, err)
	}
}

func TestFind_NamesTheDirectoriesTried(t *testing.T) {
	dir := physicalTempDir(t)
	root, tried, err := Find(dir)
	if err == nil {
		t.Fatalf("there is a project above the temporary directory, at %s", root)
	}
	notFound, ok := errors.AsType[*NotFoundError](err)
	if !ok || !slices.Equal(notFound.Tried, tried) || tried[0] != dir || tried[len(tried)-1] != "/" {
		t.Errorf("got %v, %v", tried, err)
	}
	if !strings.Contains(err.Error(), filepath.Dir(dir)) {
		t.Errorf("%v does not name the parent", err)
	}
}

func TestFind_AcceptsRelativePaths(t *testing.T) {
	top := physicalTempDir(t)
	write(t, filepath.Join(top, ConfigName), "")
	t.Chdir(top)
	for _, dir := range []string{"", "."} {
		if root, _, err := Find(dir); root != top || err != nil {
			t.Errorf("Find(%q) = %s, %v", dir, root, err)
		}
	}
	if _, _, err := Find("nowhere"); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrDirectoryDeleted) {
		t.Errorf("Find(nowhere): %v", err)
	}
}

func TestFind_ReportsADeletedCurrentDirectory(t *testing.T) {
	dir := filepath.Join(physicalTempDir(t), "gone")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	for _, pwd := range []string{dir, ""} { // a shell's $PWD still names it
		t.Setenv("PWD", pwd)
		if _, _, err := Find("."); !errors.Is(err, ErrDirectoryDeleted) {
			t.Errorf("PWD=%q: %v", pwd, err)
		}
	}
}

func TestRead_NamesAFileThatCannotBeRead(t *testing.T) {
	root := physicalTempDir(t)
	for _, name := range []string{EnvName, LocalName, ConfigName} {
		write(t, filepath.Join(root, ConfigName), "")
		path := filepath.Join(root, name)
		if err := errors.Join(os.RemoveAll(path), os.Symlink(name, path)); err != nil { // a loop stops root as well
			t.Fatal(err)
		}
		if _, err := ReadFiles(filepath.Join(root, ConfigName)); !errors.Is(err, syscall.ELOOP) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s is a loop: %v", name, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		write(t, path, "")
		if err := os.Chmod(path, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadFiles(filepath.Join(root, ConfigName)); os.Getuid() != 0 && (!errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), path)) {
			t.Errorf("%s has no mode: %v", name, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRead_RejectsSpecialAndHugeFiles(t *testing.T) {
	root := physicalTempDir(t)
	path := filepath.Join(root, ConfigName)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFiles(filepath.Join(root, ConfigName)); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a named pipe: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write(t, path, strings.Repeat("#\n", maxFileSize))
	if _, err := ReadFiles(filepath.Join(root, ConfigName)); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("a huge file: %v", err)
	}
}
