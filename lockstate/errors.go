package lockstate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// NotRegularError says that something else is at the path of one of our files. Removing it is enough: what
// is missing is created again.
type NotRegularError struct {
	Path string
	Kind string // "named pipe", "directory", …

	isDirWanted bool
}

func (e *NotRegularError) Error() string {
	want := "regular file"
	if e.isDirWanted {
		want = "directory"
	}
	return fmt.Sprintf("%s is a %s, not a %s; remove it", e.Path, e.Kind, want)
}

// WriteError says that the state directory could not be written: the disk, its inodes or a quota is exhausted, a file
// size limit is reached, or it is read-only. The state file is unchanged.
type WriteError struct {
	Path string
	Err  error
	// Fallback is the file that has the state instead; empty if none has. See Tx.MarkFinal.
	Fallback string
}

func (e *WriteError) Error() string { return fmt.Sprintf("write %s: %v", e.Path, e.Err) }

func (e *WriteError) Unwrap() error { return e.Err }

// newWriteError keeps only the cause, because the os package adds the names of temporary files.
func newWriteError(path string, err error) *WriteError {
	var pathErr *fs.PathError
	var linkErr *os.LinkError
	switch {
	case errors.As(err, &pathErr):
		err = pathErr.Err
	case errors.As(err, &linkErr):
		err = linkErr.Err
	}
	return &WriteError{Path: path, Err: err}
}

// LockedError says that another process held the file lock until the deadline.
type LockedError struct {
	Path    string
	PID     int    // of the process that holds it; 0: not known
	Program string // its name
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("lock %s: held by another process", e.Path)
	}
	return fmt.Sprintf("lock %s: held by pid %d (%s)", e.Path, e.PID, e.Program)
}

// openRegular opens a file without blocking: an ordinary open of a named pipe without a writer would block
// indefinitely. Symbolic links to regular files are followed.
func openRegular(path string, flag int) (*os.File, error) {
	file, err := os.OpenFile(path, flag|unix.O_NONBLOCK|unix.O_NOCTTY, 0o600)
	if err != nil {
		if kind := kindOf(path); kind != "" {
			return nil, &NotRegularError{Path: path, Kind: kind}
		}
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &NotRegularError{Path: path, Kind: kindName(info.Mode())}
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// kindOf names what is at path instead of a regular file; empty if that is not why it could not be opened.
func kindOf(path string) string {
	entry, err := os.Lstat(path)
	if err != nil {
		return ""
	}
	if entry.Mode()&fs.ModeSymlink != 0 {
		entry, err = os.Stat(path)
	}
	switch {
	case errors.Is(err, syscall.ELOOP):
		return "symbolic link loop"
	case errors.Is(err, fs.ErrNotExist):
		return "broken symbolic link"
	case err == nil && !entry.Mode().IsRegular():
		return kindName(entry.Mode())
	}
	return ""
}

func kindName(mode fs.FileMode) string {
	switch {
	case mode.IsRegular():
		return "regular file"
	case mode.IsDir():
		return "directory"
	case mode&fs.ModeNamedPipe != 0:
		return "named pipe"
	case mode&fs.ModeSocket != 0:
		return "socket"
	case mode&fs.ModeDevice != 0:
		return "device"
	}
	return "special file"
}

// maxMkdirAttempts is the number of attempts to create a directory that others create and delete at the same time.
const maxMkdirAttempts = 100

// makeDirs creates the state directory and its missing parents with mode 0700.
func (d *Dir) makeDirs() error {
	err := d.beforeCall(CallMakeDir, "")
	if err == nil {
		err = os.MkdirAll(d.LogDir(), 0o700)
	}
	for attempts := 0; (errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist)) && attempts < maxMkdirAttempts; attempts++ {
		err = os.MkdirAll(d.LogDir(), 0o700) // it, or its parent, was deleted between two system calls of MkdirAll
	}
	if err == nil {
		return nil
	}
	projects := filepath.Dir(d.Path)
	for _, path := range []string{filepath.Dir(projects), projects, d.Path, d.LogDir()} {
		info, statErr := os.Stat(path)
		switch {
		case statErr == nil && info.IsDir():
			continue
		case statErr == nil:
			return &NotRegularError{Path: path, Kind: kindName(info.Mode()), isDirWanted: true}
		}
		if kind := kindOf(path); kind != "" {
			return &NotRegularError{Path: path, Kind: kind, isDirWanted: true}
		}
	}
	return newWriteError(d.LogDir(), err)
}
