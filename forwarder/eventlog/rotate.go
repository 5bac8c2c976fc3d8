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

// rotatedName is the name of the n-th rotated file of the log file at path; 0 is the log file itself.
func rotatedName(path string, n int) string {
	if n == 0 {
		return path
	}
	return fmt.Sprintf("%s.%d", path, n)
}

// rotate renames a log file and its rotated files to the next number, and removes those beyond the limits. The oldest is renamed
// first, so that a reader that opens them from the newest to the oldest misses none.
func rotate(path string, limits Limits) error {
	for n := limits.MaxRotated - 1; n >= 0; n-- {
		err := os.Rename(rotatedName(path, n), rotatedName(path, n+1))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return pruneRotated(path, limits)
}

// pruneRotated removes the files of a log that have expired or exceed MaxRotated, which may have been larger before.
func pruneRotated(path string, limits Limits) error {
	return forEachFile(filepath.Dir(path), func(name string, n int, info fs.FileInfo) error {
		if name != filepath.Base(path) || n <= limits.MaxRotated && !limits.isExpired(info) {
			return nil
		}
		return os.Remove(rotatedName(path, n))
	})
}

// RemoveExpired removes every expired file from a log directory, also those of services that no longer exist.
func RemoveExpired(dir string, limits Limits) error {
	limits = limits.withDefaults()
	return forEachFile(dir, func(name string, n int, info fs.FileInfo) error {
		if !limits.isExpired(info) {
			return nil
		}
		return os.Remove(filepath.Join(dir, rotatedName(name, n)))
	})
}

// forEachFile calls fn with every file of a log directory: the name of its log file, and its number, 0 for the log file itself.
// It continues after errors, and returns them joined.
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

// parseFileName splits "db.log.2" into "db.log" and 2; false if it is no file of this package.
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
