package project

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// The size of each file is bounded, because it is read before the user has allowed it. A config may be smaller, because
// the time that go-toml takes grows with the square of the number of keys.
const (
	maxConfigSize = 128 << 10
	maxFileSize   = 1 << 20
)

// Files are the bytes that decide what a project does. Trust is asked about them and Parse reads them, so that what
// was allowed is what runs.
type Files struct {
	Root   string // physical
	Path   string // of the config file, in Root
	Config []byte
	Local  []byte // .localport.local.toml; nil: absent
	DotEnv []byte // .env; nil: absent
	// DotEnvPath is where DotEnv was read from: Root/.env, or in a linked worktree without one, the main checkout's.
	DotEnvPath string
	// ReferencedFiles holds the files that kubeconfig and the keys in _file (key_file, ca_file) name and that lie inside Root, by
	// path relative to Root; nil: absent. Of a file that a symbolic link leads out of Root, it holds the link's target, not the
	// contents: these are the user's own.
	ReferencedFiles map[string][]byte
}

// ReadFiles reads the project whose config is the file at path: it, and beside it .localport.local.toml, .env and the files they name. The
// root is the directory that holds it. The local override belongs to .localport.toml alone, and is not looked for beside a file of
// another name.
func ReadFiles(path string) (*Files, error) {
	root, err := PhysicalPath(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	f := &Files{Root: root, Path: filepath.Join(root, filepath.Base(path))}
	if f.Config, err = readRegular(f.Path, maxConfigSize); err != nil {
		return nil, err
	}
	if filepath.Base(path) == ConfigName {
		if f.Local, err = readOptional(filepath.Join(root, LocalName), maxConfigSize); err != nil {
			return nil, err
		}
	}
	if err := f.LoadDotEnv(root); err != nil {
		return nil, err
	}
	f.ReferencedFiles, err = readReferencedFiles(f)
	return f, err
}

// LoadDotEnv replaces f.DotEnv by the contents of dir/.env, nil if there is none.
func (f *Files) LoadDotEnv(dir string) error {
	path := filepath.Join(dir, EnvName)
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil // Python programmers call their virtual environment .env
	}
	data, err := readOptional(path, maxFileSize)
	f.DotEnv, f.DotEnvPath = data, path
	return err
}

// Digest is the SHA-256 of all contents, in hex. An absent and an empty file have different digests, as does every division of the same bytes
// into files. The root's path is not part of it: two checkouts with the same files have the same digest.
func (f *Files) Digest() string {
	h := sha256.New()
	h.Write([]byte("localport project files 1\n"))
	writeFrame(h, f.Config)
	writeFrame(h, f.Local)
	writeFrame(h, f.DotEnv)
	for _, name := range slices.Sorted(maps.Keys(f.ReferencedFiles)) {
		writeFrame(h, []byte(name))
		writeFrame(h, f.ReferencedFiles[name])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// writeFrame writes data so that no two sequences of frames are the same bytes.
func writeFrame(h hash.Hash, data []byte) {
	if data == nil {
		h.Write([]byte{0})
		return
	}
	h.Write(binary.BigEndian.AppendUint64([]byte{1}, uint64(len(data))))
	h.Write(data)
}

// readOptional is readRegular of a file that may be absent.
func readOptional(path string, limit int) ([]byte, error) {
	data, err := readRegular(path, limit)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	return data, err
}

// readRegular reads a regular file. Anything else is refused without waiting: opening a named pipe would hang the
// prompt that asked.
func readRegular(path string, limit int) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // nothing was written
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("read %s: not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(file, int64(limit)+1))
	if len(data) > limit {
		return nil, fmt.Errorf("read %s: larger than %d KiB", path, limit>>10)
	}
	return data, err
}
