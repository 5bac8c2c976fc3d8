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

// rotatedName is the name of the n-th file put aside; the 0th is the one that is written.
func rotatedName(path string, n int) string {
	if n == 0 {
		return path
	}
	return fmt.Sprintf("%s.%d", path, n)
}

// rotate moves every file of a journal one name on, the oldest first, so that a reader who looks from the newest to
// the oldest meets each of them. The last one goes.
func rotate(path string, limits Limits) error {
	for n := limits.MaxRotated - 1; n >= 0; n-- {
		err := os.Rename(rotatedName(path, n), rotatedName(path, n+1))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return pruneRotated(path, limits)
}

// pruneRotated removes what is too old of a journal, and what was put aside under other limits than now.
func pruneRotated(path string, limits Limits) error {
	return forEachFile(filepath.Dir(path), func(name string, n int, info fs.FileInfo) error {
		if name != filepath.Base(path) || n <= limits.MaxRotated && !limits.isExpired(info) {
			return nil
		}
		return os.Remove(rotatedName(path, n))
	})
}

// RemoveExpired removes from a directory every journal file whose last line is too old, also of services that are no more.
func RemoveExpired(dir string, limits Limits) error {
	limits = limits.withDefaults()
	return forEachFile(dir, func(name string, n int, info fs.FileInfo) error {
		if !limits.isExpired(info) {
			return nil
		}
		return os.Remove(filepath.Join(dir, rotatedName(name, n)))
	})
}

// forEachFile calls fn with every journal file of a directory: its journal's name, and the how many-th put aside it is.
func forEachFile(dir string, fn func(name string, n int, info fs.FileInfo) error) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		name, n, ok := parseFileName(entry.Name())
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

// parseFileName takes db.log.2 apart.
func parseFileName(file string) (name string, n int, ok bool) {
	name = file
	if ext := filepath.Ext(file); ext != "" {
		if i, err := strconv.Atoi(ext[1:]); err == nil && i > 0 {
			name, n = strings.TrimSuffix(file, ext), i
		}
	}
	return name, n, strings.HasSuffix(name, logFileSuffix) || name == eventsFileName
}

const (
	logFileSuffix  = ".log"
	eventsFileName = "events.jsonl"
)
