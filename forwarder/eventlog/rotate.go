package eventlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// aside is the name of the n-th file put aside; the 0th is the one that is written.
func aside(path string, n int) string {
	if n == 0 {
		return path
	}
	return fmt.Sprintf("%s.%d", path, n)
}

// putAside moves every file of a journal one name on, the oldest first, so that a reader who looks from the newest to
// the oldest meets each of them. The last one goes.
func putAside(path string, limits Limits) error {
	for n := limits.Files - 1; n >= 0; n-- {
		err := os.Rename(aside(path, n), aside(path, n+1))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return tidy(path, limits)
}

// tidy removes what is too old of a journal, and what was put aside under other limits than now.
func tidy(path string, limits Limits) error {
	return eachFile(filepath.Dir(path), func(name string, n int, info fs.FileInfo) error {
		if name != filepath.Base(path) || n <= limits.Files && !limits.stale(info) {
			return nil
		}
		return os.Remove(aside(path, n))
	})
}

// Tidy removes from a directory every journal file whose last line is too old, also of services that are no more.
func Tidy(dir string, limits Limits) error {
	limits = limits.filled()
	return eachFile(dir, func(name string, n int, info fs.FileInfo) error {
		if !limits.stale(info) {
			return nil
		}
		return os.Remove(filepath.Join(dir, aside(name, n)))
	})
}

// eachFile calls fn with every journal file of a directory: its journal's name, and the how many-th put aside it is.
func eachFile(dir string, fn func(name string, n int, info fs.FileInfo) error) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		name, n, ok := journalName(entry.Name())
		if !ok {
			continue
		}
		info, err := entry.Info()
		if err == nil {
			err = fn(name, n, info)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// journalName takes db.log.2 apart.
func journalName(file string) (name string, n int, ok bool) {
	name = file
	if ext := filepath.Ext(file); ext != "" {
		if i, err := strconv.Atoi(ext[1:]); err == nil && i > 0 {
			name, n = strings.TrimSuffix(file, ext), i
		}
	}
	return name, n, strings.HasSuffix(name, logSuffix) || name == eventsName
}

const (
	logSuffix  = ".log"
	eventsName = "events.jsonl"
)
