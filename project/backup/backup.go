// Package backup keeps copies of a project's config files outside of the project.
package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Store holds the backups of one config.
type Store struct {
	Dir string // created by the first backup
}

// StoreOf returns the store of the config at path. dataDir is localport's data directory.
func StoreOf(dataDir, path string) Store {
	sum := sha256.Sum256([]byte(path))
	return Store{filepath.Join(dataDir, "backups", hex.EncodeToString(sum[:]))}
}

// Backup is a directory with copies of files, which have the modes, the owners and the times of the files.
type Backup struct {
	Name string
	Time time.Time // when it was made, to the second
	Dir  string
}

// File is a file in a backup.
type File struct {
	Name string
	Data []byte
	Info fs.FileInfo
}

// nameLayout is the layout of a backup's name, in UTC. A dash and a number follow if there is one of that second.
const nameLayout = "20060102T150405Z"

// Create makes a backup of files, of which those that do not exist are left out. If the last backup has the same contents, it returns that. After
// an error, such as a full disk, there is no part of a backup.
func (s Store) Create(paths []string, now time.Time) (Backup, error) {
	files, err := readFiles(paths)
	if err != nil {
		return Backup{}, err
	}
	if len(files) == 0 {
		return Backup{}, &fs.PathError{Op: "back up", Path: strings.Join(paths, ", "), Err: fs.ErrNotExist}
	}
	all, err := s.List()
	if err != nil {
		return Backup{}, err
	}
	if len(all) > 0 && all[0].holds(files) {
		return all[0], nil
	}
	return s.add(files, now)
}

func (s Store) add(files []File, now time.Time) (Backup, error) {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return Backup{}, err
	}
	temporary, err := os.MkdirTemp(s.Dir, ".new-")
	if err != nil {
		return Backup{}, err
	}
	defer os.RemoveAll(temporary)
	for _, file := range files {
		if err := WriteCopy(filepath.Join(temporary, file.Name), file); err != nil {
			return Backup{}, err
		}
	}
	name := now.UTC().Format(nameLayout)
	for number := 2; ; number++ {
		backup := Backup{Name: name, Time: now.Truncate(time.Second), Dir: filepath.Join(s.Dir, name)}
		err := os.Rename(temporary, backup.Dir)
		if !errors.Is(err, fs.ErrExist) && !errors.Is(err, syscall.ENOTEMPTY) {
			return backup, err
		}
		name = fmt.Sprintf("%s-%d", now.UTC().Format(nameLayout), number)
	}
}

// readFiles reads the files that exist.
func readFiles(paths []string) (files []File, err error) {
	for _, path := range paths {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		files = append(files, File{filepath.Base(path), data, info})
	}
	return files, nil
}

// WriteCopy writes a new file with the mode, the owner and the time of another. The owner is kept where the user may set it.
func WriteCopy(path string, file File) error {
	copied, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer copied.Close()
	if _, err := copied.Write(file.Data); err != nil {
		return err
	}
	if owner, ok := file.Info.Sys().(*syscall.Stat_t); ok {
		_ = copied.Chown(int(owner.Uid), int(owner.Gid))
	}
	if err := copied.Chmod(file.Info.Mode().Perm()); err != nil {
		return err
	}
	if err := copied.Sync(); err != nil {
		return err
	}
	return os.Chtimes(path, file.Info.ModTime(), file.Info.ModTime())
}

// List returns the backups, the newest first.
func (s Store) List() ([]Backup, error) {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []Backup
	for _, entry := range entries {
		date, _, _ := strings.Cut(entry.Name(), "-")
		if made, err := time.Parse(nameLayout, date); err == nil && entry.IsDir() {
			all = append(all, Backup{Name: entry.Name(), Time: made, Dir: filepath.Join(s.Dir, entry.Name())})
		}
	}
	slices.SortFunc(all, func(a, b Backup) int { return compareNames(b.Name, a.Name) })
	return all, err
}

// compareNames compares names of backups by their age. Those of one second differ in length if their numbers do.
func compareNames(a, b string) int {
	if len(a) != len(b) && strings.HasPrefix(a, b[:len(nameLayout)]) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// Files returns the files of a backup.
func (b Backup) Files() ([]File, error) {
	entries, err := os.ReadDir(b.Dir)
	if err != nil {
		return nil, err
	}
	paths := make([]string, len(entries))
	for i, entry := range entries {
		paths[i] = filepath.Join(b.Dir, entry.Name())
	}
	return readFiles(paths)
}

// holds reports whether the backup has exactly these files.
func (b Backup) holds(files []File) bool {
	own, err := b.Files()
	if err != nil || len(own) != len(files) {
		return false
	}
	for _, file := range files {
		isSame := func(f File) bool { return f.Name == file.Name && bytes.Equal(f.Data, file.Data) }
		if !slices.ContainsFunc(own, isSame) {
			return false
		}
	}
	return true
}
