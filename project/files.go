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
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/localport-sh/localport/forwarder/printable"
)

// The size of each file is bounded, because it is read before the user has allowed it. The limit of a config is lower, because the time
// that go-toml takes grows with the square of the number of keys.
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
	// LocalPath and DotEnvPath are where Local and DotEnv were read from: in Root, or in a linked worktree without the file, in the main
	// checkout. LocalPath is empty if the config file has no local override.
	LocalPath, DotEnvPath string
	DotEnvProblem         string // why a .env that is there is treated as absent, and what to do; empty: it is not
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
	return f, f.loadOthers()
}

// ReadFilesAround reads the files beside a config that has not been written to path yet.
func ReadFilesAround(path string, config []byte) (*Files, error) {
	root, err := PhysicalPath(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	f := &Files{Root: root, Path: filepath.Join(root, filepath.Base(path)), Config: config}
	return f, f.loadOthers()
}

// loadOthers reads the files beside the config.
func (f *Files) loadOthers() (err error) {
	if err := f.loadLocal(f.Root); err != nil {
		return err
	}
	if err := f.loadDotEnv(f.Root); err != nil {
		return err
	}
	f.ReferencedFiles, err = readReferencedFiles(f)
	return err
}

// WithMissingFrom returns f with the .localport.local.toml and the .env of dir, each where f has none: neither is in git, so that a new
// worktree has none. It returns f itself if dir adds nothing.
func (f *Files) WithMissingFrom(dir string) (*Files, error) {
	combined := *f
	if f.Local == nil {
		if err := combined.loadLocal(dir); err != nil {
			return nil, err
		}
		if combined.Local == nil {
			combined.LocalPath = f.LocalPath
		}
	}
	if f.DotEnv == nil {
		if err := combined.loadDotEnv(dir); err != nil {
			return nil, err
		}
		if combined.DotEnv == nil {
			combined.DotEnvPath = f.DotEnvPath
		} else {
			combined.DotEnvProblem = ""
		}
	}
	if combined.Local == nil && combined.DotEnv == nil {
		return f, nil
	}
	var err error
	combined.ReferencedFiles, err = readReferencedFiles(&combined)
	return &combined, err
}

// loadLocal replaces f.Local by the contents of dir/.localport.local.toml, nil if there is none.
func (f *Files) loadLocal(dir string) (err error) {
	if filepath.Base(f.Path) != ConfigName {
		return nil
	}
	f.LocalPath = filepath.Join(dir, LocalName)
	f.Local, err = readOptional(f.LocalPath, maxConfigSize)
	return err
}

// loadDotEnv replaces f.DotEnv by the contents of dir/.env, nil if there is none.
func (f *Files) loadDotEnv(dir string) error {
	path := filepath.Join(dir, EnvName)
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		if _, err := os.Stat(filepath.Join(path, "pyvenv.cfg")); err != nil { // Python programmers call their virtual environment .env
			f.DotEnvProblem = "is a directory, so no variables are read from it; rename it if it is not meant to be one"
		}
		f.DotEnvPath = path
		return nil
	}
	data, err := readOptional(path, maxFileSize)
	if link, linkErr := os.Readlink(path); data == nil && err == nil && linkErr == nil {
		f.DotEnvProblem = fmt.Sprintf("is a symbolic link to %s, which does not exist, so no variables are read from it; correct or remove the link", link)
	}
	f.DotEnv, f.DotEnvPath = data, path
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w; make it readable, or move it away", err)
	}
	return err
}

// DotEnvWarning returns a warning about a .env that is there and from which no variables can be read; nil if there is none.
func (f *Files) DotEnvWarning() *Diagnostic {
	if f.DotEnvProblem == "" {
		return nil
	}
	return &Diagnostic{Path: printable.EscapeLine(f.DotEnvPath), Message: printable.EscapeLine(f.DotEnvProblem)}
}

// Digest returns the SHA-256 of all contents, in hex. An absent file and an empty one give different digests, and so does the same text
// divided differently among the files. The root's path is not part of it: two checkouts with the same files have the same digest.
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

// Digests returns the SHA-256 of each file, in hex, by its path relative to the root. What is read from a main checkout has the name that it would
// have in the root.
func (f *Files) Digests() map[string]string {
	digests := make(map[string]string)
	for name, data := range f.all() {
		if data != nil {
			sum := sha256.Sum256(data)
			digests[name] = hex.EncodeToString(sum[:])
		}
	}
	return digests
}

// DescribeChange says which files differ from those with these digests: ".env changed". Without digests it names none.
func (f *Files) DescribeChange(digests map[string]string) string {
	now := f.Digests()
	var changed []string
	for name := range f.all() {
		if now[name] != digests[name] {
			changed = append(changed, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(digests)) {
		if now[name] == "" && !slices.Contains(changed, name) {
			changed = append(changed, name) // a file that the config no longer names
		}
	}
	if len(digests) == 0 || len(changed) == 0 {
		return "the config files changed"
	}
	last := len(changed) - 1
	text := changed[last] + " changed"
	if last > 0 {
		text = strings.Join(changed[:last], ", ") + " and " + text
	}
	return text
}

// all yields each file with its contents, the config first; nil: absent.
func (f *Files) all() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		if !yield(filepath.Base(f.Path), f.Config) || !yield(LocalName, f.Local) || !yield(EnvName, f.DotEnv) {
			return
		}
		for _, name := range slices.Sorted(maps.Keys(f.ReferencedFiles)) {
			if !yield(name, f.ReferencedFiles[name]) {
				return
			}
		}
	}
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

// readOptional is readRegular for a file that may be absent: it then returns nil.
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
		return nil, tooLargeError(path, limit)
	}
	return data, err
}

func tooLargeError(path string, limit int) error {
	if limit == maxConfigSize {
		return fmt.Errorf("read %s: larger than %d KiB, the limit for this file; remove what no service needs, or divide the project", path, limit>>10)
	}
	return fmt.Errorf("read %s: larger than %d MiB, the limit for this file; remove what no service needs", path, limit>>20)
}

// WithContents returns f with other contents of one of its files: of the config at f.Path, of .localport.local.toml at f.LocalPath, or of .env at
// f.DotEnvPath. The files that the configs name are read again.
func (f *Files) WithContents(path string, data []byte) (*Files, error) {
	changed := *f
	switch path {
	case f.Path:
		changed.Config = data
	case f.LocalPath:
		changed.Local = data
	case f.DotEnvPath:
		changed.DotEnv = data
	default:
		return nil, fmt.Errorf("%s is not a file of the project", path)
	}
	var err error
	changed.ReferencedFiles, err = readReferencedFiles(&changed)
	return &changed, err
}
