package lockstate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// isAbsent reports whether an error says that a file, or a directory on its path, does not exist.
func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) }

// readFile reads a regular file and never blocks.
func readFile(path string) ([]byte, error) {
	file, err := openRegular(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(file)
}

// readIfRegular reads a file that may be missing: if there is none, or something else is at its path, it returns nil. After an error, such
// as a lack of descriptors, there may be a file.
func readIfRegular(path string) ([]byte, error) {
	data, err := readFile(path)
	if err == nil && data == nil {
		data = []byte{}
	}
	if _, ok := errors.AsType[*NotRegularError](err); ok || isAbsent(err) || errors.Is(err, unix.ELOOP) {
		return nil, nil
	}
	if err != nil {
		return nil, readError(path, err)
	}
	return data, nil
}

func readAll(file *os.File) ([]byte, error) {
	var data bytes.Buffer
	_, err := io.Copy(&data, io.NewSectionReader(file, 0, 1<<62))
	return data.Bytes(), err
}

func readError(path string, err error) error {
	if _, ok := errors.AsType[*NotRegularError](err); ok {
		return err
	}
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	return fmt.Errorf("read the state %s: %w", path, err)
}

// replaceState writes the state file, unless the lock was lost. With keepOld, the old file is kept as unusablePath.
func (l *fileLock) replaceState(data []byte, keepOld bool) error {
	path := l.dir.path(stateName)
	temp, err := l.dir.writeStateTemp(data)
	if temp != nil {
		defer os.Remove(temp.Name())
	}
	if err == nil {
		// Locked before anyone can open it, so that readers wait until this change is complete.
		_, err = l.dir.tryFlock(temp)
	}
	if validateErr := l.validate(); validateErr != nil {
		closeFile(temp)
		return validateErr
	}
	if err != nil {
		closeFile(temp)
		if l.mayOverwrite && !keepOld && l.overwriteState(data) == nil {
			return nil
		}
		return newWriteError(path, err)
	}
	if keepOld && l.stateFile != nil {
		keepUnusable(path, l.dir.unusablePath())
	}
	if err := l.install(temp.Name(), path); err != nil {
		temp.Close()
		return err
	}
	closeFile(l.stateFile)
	l.stateFile = temp
	return nil
}

// writeStateTemp writes the new state file under a temporary name. The file is not nil if it was made.
func (d *Dir) writeStateTemp(data []byte) (*os.File, error) {
	if err := d.beforeCall(CallCreate, stateName); err != nil {
		return nil, err
	}
	return writeTemp(d.Path, ".new-*", data)
}

// overwriteState overwrites the state file in place if the new state is not longer, which needs no space on most file systems. It pads the
// state with spaces, so that a single write replaces everything.
func (l *fileLock) overwriteState(data []byte) error {
	if l.stateFile == nil {
		return fs.ErrNotExist
	}
	info, err := l.stateFile.Stat()
	if err != nil {
		return err
	}
	if int64(len(data)) > info.Size() {
		return unix.ENOSPC
	}
	if err := l.dir.beforeCall(CallOverwrite, stateName); err != nil {
		return err
	}
	file, err := openRegular(l.dir.path(stateName), os.O_WRONLY)
	if err != nil {
		return err
	}
	defer file.Close()
	if now, err := file.Stat(); err != nil || !os.SameFile(now, info) {
		return errLockLost
	}
	_, err = file.WriteAt(append(data, bytes.Repeat([]byte(" "), int(info.Size())-len(data))...), 0)
	return err
}

func closeFile(file *os.File) {
	if file != nil {
		file.Close()
	}
}

// install renames a complete file to path. If there was no file when the state was read, one that was created since is
// not replaced: another process created it under a newer lock.
func (l *fileLock) install(temp, path string) error {
	if err := l.dir.beforeCall(CallRename, stateName); err != nil {
		return newWriteError(path, err)
	}
	if l.stateFile == nil {
		err := os.Link(temp, path)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, fs.ErrExist), errors.Is(err, fs.ErrNotExist):
			return errLockLost
		}
		// Not every file system has hard links.
	}
	err := os.Rename(temp, path)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return errLockLost
	}
	return newWriteError(path, err)
}

// maxUnusable is how many unusable state files are kept.
const maxUnusable = 5

// unusablePath returns the path for an unusable state file: the first free name, else that of the oldest one.
func (d *Dir) unusablePath() string {
	oldest, oldestTime := "", time.Time{}
	for i := range maxUnusable {
		path := d.path("state.json.unusable")
		if i > 0 {
			path += "." + strconv.Itoa(i+1)
		}
		info, err := os.Lstat(path)
		if err != nil {
			return path
		}
		if oldest == "" || info.ModTime().Before(oldestTime) {
			oldest, oldestTime = path, info.ModTime()
		}
	}
	return oldest
}

// keepUnusable links a file to a second name, so that it never disappears from the first; without hard links, it is renamed.
func keepUnusable(path, unusablePath string) {
	_ = os.Remove(unusablePath)
	if os.Link(path, unusablePath) != nil {
		_ = os.Rename(path, unusablePath)
	}
}

// writeTemp writes a complete file under a temporary name and returns it open. It does not fsync: after a
// power failure no lease is valid, and an empty state file is replaced.
func writeTemp(dir, pattern string, data []byte) (*os.File, error) {
	temp, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return nil, err
	}
	_, err = temp.Write(data)
	return temp, err
}

// replaceFile replaces a file of the directory as the function replaceFile does.
func (d *Dir) replaceFile(name string, data []byte) error {
	if err := d.beforeCall(CallCreate, name); err != nil {
		return err
	}
	return replaceFile(d.path(name), data)
}

// replaceFile writes a file so that a reader sees the old content or the new, never a part.
func replaceFile(path string, data []byte) error {
	temp, err := writeTemp(filepath.Dir(path), ".new-*", data)
	if temp == nil {
		return err
	}
	defer os.Remove(temp.Name())
	if closeErr := temp.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}

// removeOldTemps removes temporary files of processes that were killed while they wrote.
func (d *Dir) removeOldTemps() {
	const minAge = time.Minute // a process that is still writing needs milliseconds
	entries, err := os.ReadDir(d.Path)
	if err != nil {
		return
	}
	for _, entry := range entries {
		isTemp := slices.ContainsFunc([]string{".new-", ".stamp-"}, func(prefix string) bool { return strings.HasPrefix(entry.Name(), prefix) })
		if !isTemp {
			continue
		}
		if info, err := entry.Info(); err == nil && time.Since(info.ModTime()) > minAge {
			os.Remove(d.path(entry.Name()))
		}
	}
}
