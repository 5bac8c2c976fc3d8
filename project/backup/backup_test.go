package backup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

func TestStore_KeepsContentsModesAndTimes(t *testing.T) {
	dir := t.TempDir()
	config, local := filepath.Join(dir, "a.toml"), filepath.Join(dir, "local.toml")
	write(t, config, "x = 1\n")
	modified := time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := errors.Join(os.Chtimes(config, modified, modified), os.Chmod(config, 0o604)); err != nil {
		t.Fatal(err)
	}
	s := StoreOf(t.TempDir(), config)
	now := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	first, err := s.Create([]string{config, local}, now)
	if err != nil || first.Name != "20260102T150405Z" {
		t.Fatalf("%+v %v", first, err)
	}
	files, err := first.Files()
	if err != nil || len(files) != 1 || string(files[0].Data) != "x = 1\n" || files[0].Info.Mode().Perm() != 0o604 || !files[0].Info.ModTime().Equal(modified) {
		t.Errorf("%+v %v", files, err)
	}
	if again, err := s.Create([]string{config, local}, now.Add(time.Hour)); err != nil || again.Name != first.Name {
		t.Errorf("nothing has changed, and there is a new backup: %+v %v", again, err)
	}
	for i := range 11 { // of one second
		write(t, local, string(rune('a'+i)))
		if _, err := s.Create([]string{config, local}, now); err != nil {
			t.Fatal(err)
		}
	}
	all, err := s.List()
	if err != nil || len(all) != 12 || all[0].Name != "20260102T150405Z-12" || all[11].Name != first.Name || !all[0].Time.Equal(now) {
		t.Errorf("%+v %v", all, err)
	}
	if info, err := os.Stat(s.Dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

func TestStore_LeavesNothingAfterAnError(t *testing.T) {
	dir := t.TempDir()
	s := StoreOf(t.TempDir(), filepath.Join(dir, "a.toml"))
	if _, err := s.Create([]string{filepath.Join(dir, "a.toml")}, time.Now()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
	file := File{Name: "a/b", Data: []byte("x")} // which cannot be written
	if _, err := s.add([]File{file}, time.Now()); err == nil {
		t.Error("it was written")
	}
	if entries, err := os.ReadDir(s.Dir); err != nil || len(entries) > 0 {
		t.Errorf("%v %v", entries, err)
	}
	if all, err := s.List(); err != nil || len(all) > 0 {
		t.Errorf("%v %v", all, err)
	}
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create([]string{filepath.Join(dir, "d")}, time.Now()); err == nil {
		t.Error("a directory was backed up")
	}
}
