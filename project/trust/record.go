package trust

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/google/renameio/v2"

	"github.com/localport-sh/localport/forwarder/wait"
)

// recordVersion is the version of the record format. A record of another version is unusable.
const recordVersion = 1

// maxAllowedDigests is the number of digests kept for one path, the last allowed ones: enough for a year of branches.
const maxAllowedDigests = 64

// maxRecordSize is the number of bytes read of a record; a complete one is far smaller.
const maxRecordSize = 64 << 10

// record is what is remembered about one config file.
type record struct {
	Version int    `json:"version"`
	Path    string `json:"path"` // detects a record that was copied from another path
	// PathBytes is Path where that is not UTF-8, which JSON cannot hold; else nil. Older versions drop it.
	PathBytes []byte   `json:"path_bytes,omitempty"`
	Allowed   []string `json:"allowed,omitempty"` // digests, the oldest first
	Denied    bool     `json:"denied,omitempty"`

	isUnusable bool // its file exists and is damaged, or not private to this user
}

func (r *record) allow(digest string) {
	r.Denied = false
	r.Allowed = slices.DeleteFunc(r.Allowed, func(d string) bool { return d == digest })
	r.Allowed = append(r.Allowed, digest)
	r.Allowed = r.Allowed[max(0, len(r.Allowed)-maxAllowedDigests):]
}

// recordPath returns the path of the record of a config file.
func (s Store) recordPath(path string) string {
	sum := sha256.Sum256([]byte(path))
	return filepath.Join(s.Dir, hex.EncodeToString(sum[:])+".json")
}

// readRecord returns the record of the config file at path. An absent or unusable record is empty, and so allows nothing;
// an error is about the store as a whole.
func (s Store) readRecord(path string) (record, error) {
	empty := record{Version: recordVersion, Path: path}
	if !utf8.ValidString(path) {
		empty.PathBytes = []byte(path)
	}
	switch err := s.checkDir(); {
	case errors.Is(err, fs.ErrNotExist):
		return empty, nil
	case err != nil:
		return empty, err
	}
	data, info, err := readRegular(s.recordPath(path), maxRecordSize)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	var r record
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if r.PathBytes != nil {
		r.Path = string(r.PathBytes)
	}
	if err != nil || !isPrivate(info) || r.Version != recordVersion || r.Path != path {
		empty.isUnusable = true
		return empty, nil
	}
	return r, nil
}

var errNotRegular = errors.New("not a regular file")

// readRegular reads at most limit bytes of a regular file. It follows no symbolic link and waits for no named pipe.
func readRegular(path string, limit int64) ([]byte, fs.FileInfo, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close() //nolint:errcheck // nothing was written
	info, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, errNotRegular
	}
	data, err := io.ReadAll(io.LimitReader(file, limit))
	return data, info, err
}

// isPrivate reports whether a file belongs to this user and nobody else may write to it.
func isPrivate(info fs.FileInfo) bool { return isOwnedByUser(info) && info.Mode().Perm()&0o022 == 0 }

func isOwnedByUser(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Getuid()
}

// checkDir returns an error if anyone else can write to the store: they could allow any project.
func (s Store) checkDir() error {
	info, err := os.Lstat(s.Dir)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("trust store %s: not a directory", s.Dir)
	case !isPrivate(info):
		return fmt.Errorf("trust store %s: must be owned by you and not writable by others; run \"chmod 0700 %s\"", s.Dir, s.Dir)
	}
	return nil
}

// updateRecord applies edit to the record of path, and writes it.
func (s Store) updateRecord(path string, edit func(*record)) error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	if err := s.checkDir(); err != nil {
		return err
	}
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	r, err := s.readRecord(path)
	if err != nil {
		return err
	}
	edit(&r)
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return renameio.WriteFile(s.recordPath(path), append(data, '\n'), 0o600, renameio.WithStaticPermissions(0o600), renameio.WithTempDir(s.Dir))
}

// maxLockWait is how long to wait for another process to finish its change, which normally takes some milliseconds.
const maxLockWait = 2 * time.Second

// lock keeps two processes from changing the same record at once. The lock file is never removed.
func (s Store) lock() (unlock func(), err error) {
	file, err := os.OpenFile(filepath.Join(s.Dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), maxLockWait)
	defer cancel()
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = file.Close()
			return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
		}
		if !wait.Sleep(ctx, 5*time.Millisecond) { // a blocking flock has no deadline
			_ = file.Close()
			return nil, fmt.Errorf("lock %s: held by another process", file.Name())
		}
	}
}
