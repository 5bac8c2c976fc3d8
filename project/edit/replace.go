package edit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/renameio/v2"

	"github.com/localport-sh/localport/forwarder/wait"
)

// ErrChanged says that a file was changed by someone else since it was read.
var ErrChanged = errors.New("the file was changed by another program meanwhile")

// Replace replaces the contents before of a file by after. It writes a temporary file beside it, with the mode and the owner of the file, syncs and
// renames it: if the disk is full, the file stays as it was. A symbolic link stays, and its target is replaced. before is nil for a new file. If the
// file does not have the contents before, the error is ErrChanged.
func Replace(path string, before, after []byte) error { return replace(path, before, after, 0o644) }

// Create writes a new file, with a mode that the umask restricts. If there is one, the error is ErrChanged, and the file stays as it is, even if another
// program has just made it.
func Create(path string, text []byte, mode fs.FileMode) error { return replace(path, nil, text, mode) }

// replace replaces the contents before of a file or, if they are nil, writes a new one.
func replace(path string, before, after []byte, mode fs.FileMode) error {
	path, err := resolveFile(path)
	if err != nil {
		return err
	}
	unlock, err := lockDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer unlock()
	pending, err := newPending(path, before == nil, mode)
	if err != nil {
		return err
	}
	defer pending.Cleanup() //nolint:errcheck // after CloseAtomicallyReplace there is nothing to remove
	if _, err := pending.Write(after); err != nil {
		return writeError(path, err)
	}
	if err := pending.Sync(); err != nil { // before the check, so that little time passes between that and the rename
		return writeError(path, err)
	}
	if err := checkContents(path, before); err != nil {
		return err
	}
	if before == nil {
		return publish(pending, path)
	}
	return writeError(path, pending.CloseAtomicallyReplace())
}

// publish gives a new file its name. Unlike a rename, a link never replaces a file.
func publish(pending *renameio.PendingFile, path string) error {
	err := os.Link(pending.Name(), path)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrExist):
		return ErrChanged
	}
	return publishWithoutLink(pending, path)
}

// publishWithoutLink is publish on a file system that has no links: the name is taken by an empty file, which the new one replaces.
func publishWithoutLink(pending *renameio.PendingFile, path string) error {
	empty, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return ErrChanged
	}
	if err != nil {
		return writeError(path, err)
	}
	_ = empty.Close()
	if err := pending.CloseAtomicallyReplace(); err != nil {
		return errors.Join(writeError(path, err), os.Remove(path))
	}
	return nil
}

// writeError returns an error that names the file itself and not the temporary one; nil if err is.
func writeError(path string, err error) error {
	if cause, ok := errors.AsType[syscall.Errno](err); ok {
		return &fs.PathError{Op: "write", Path: path, Err: cause}
	}
	return err
}

// newPending returns the file that will replace path, or be there.
func newPending(path string, isNew bool, mode fs.FileMode) (*renameio.PendingFile, error) {
	inDir := renameio.WithTempDir(filepath.Dir(path))
	if isNew {
		pending, err := renameio.NewPendingFile(path, inDir, renameio.WithPermissions(mode))
		return pending, writeError(path, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	pending, err := renameio.NewPendingFile(path, inDir, renameio.WithStaticPermissions(0o600))
	if err != nil {
		return nil, writeError(path, err)
	}
	if err := keepOwner(pending.File, info); err != nil {
		_ = pending.Cleanup()
		return nil, &fs.PathError{Op: "write", Path: path, Err: err}
	}
	return pending, nil
}

// keepOwner gives file the owner and the mode of the file that it replaces.
func keepOwner(file *os.File, replaced fs.FileInfo) error {
	owner, ok := replaced.Sys().(*syscall.Stat_t)
	own, err := file.Stat()
	if err != nil {
		return err
	}
	if ownStat, isStat := own.Sys().(*syscall.Stat_t); ok && isStat && (ownStat.Uid != owner.Uid || ownStat.Gid != owner.Gid) {
		if err := file.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
			return fmt.Errorf("it belongs to uid %d and gid %d, and you may not write a file for them: %w", owner.Uid, owner.Gid, syscall.EPERM)
		}
	}
	return file.Chmod(replaced.Mode())
}

// checkContents returns ErrChanged unless the file has these contents; nil: there is none.
func checkContents(path string, want []byte) error {
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		data = nil
	case err != nil:
		return err
	}
	if !bytes.Equal(data, want) || (want == nil) != errors.Is(err, fs.ErrNotExist) {
		return ErrChanged
	}
	return nil
}

// resolveFile returns the path without symbolic links of a file that may not exist.
func resolveFile(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return real, err
	}
	switch info, linkErr := os.Lstat(path); {
	case linkErr == nil && info.Mode()&fs.ModeSymlink != 0:
		return "", err // to nowhere
	case linkErr == nil: // it was made meanwhile
		return filepath.EvalSymlinks(path)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	return filepath.Join(dir, filepath.Base(path)), err
}

// maxLockWait is how long to wait for another process to replace its file, which normally takes some milliseconds.
const maxLockWait = 2 * time.Second

// lockDir keeps two localport processes from replacing files of a directory at once: each checks what it replaces, and then renames.
func lockDir(dir string) (unlock func(), err error) {
	file, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), maxLockWait)
	defer cancel()
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil || errors.Is(err, syscall.ENOLCK) || errors.Is(err, syscall.ENOTSUP) { // some network file systems have no locks
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) || !wait.Sleep(ctx, 5*time.Millisecond) {
			_ = file.Close()
			return nil, &fs.PathError{Op: "lock", Path: dir, Err: err}
		}
	}
}
