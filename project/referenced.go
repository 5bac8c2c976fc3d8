package project

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
)

// isFileKey reports whether the value of a key is the path of a file: key_file, ca_file, kubeconfig.
func isFileKey(key string) bool { return key == "kubeconfig" || strings.HasSuffix(key, "_file") }

// readReferencedFiles reads the files inside the root that the config names. It runs before the config is known to be valid, so
// it reads the file of every such key at any depth, and none if the config is not TOML.
func readReferencedFiles(f *Files) (map[string][]byte, error) {
	named := map[string][]byte{}
	for _, data := range [][]byte{f.Config, f.Local} {
		doc, invalid := parseDocument(f, "", data)
		if invalid != nil {
			continue
		}
		for n := range doc.root.descendants() {
			if err := readReferencedFile(f, n, named); err != nil {
				return nil, err
			}
		}
	}
	return named, nil
}

func readReferencedFile(f *Files, n *node, named map[string][]byte) error {
	if n.kind != stringKind || !isFileKey(n.name) {
		return nil
	}
	text, ok := constantText(n.text)
	if !ok {
		return nil // Parse rejects the path if it turns out to be inside the root
	}
	path, err := expandPath(f.Root, text)
	if err != nil {
		return nil
	}
	at := locate(f.Root, path)
	if at.relPath == "" {
		return nil
	}
	if at.leadsOutside {
		named[at.relPath] = []byte("symbolic link to " + at.physicalPath)
		return nil
	}
	data, err := readOptional(path, maxFileSize)
	named[at.relPath] = data
	return err
}

// IsCovered reports whether the approval of a project covers a file that its config names: one inside the root, or that a link inside it leads to.
func IsCovered(root, path string) bool { return locate(root, path).relPath != "" }

// location is a path in relation to a root.
type location struct {
	relPath      string // relative to the root; empty: it is outside, and so is its target
	physicalPath string // without symbolic links
	leadsOutside bool   // a symbolic link inside the root leads out of it
}

func locate(root, path string) location {
	real := resolveLinks(path)
	realName, realInside := relativeWithin(root, real)
	name, nameInside := relativeWithin(root, path)
	switch {
	case nameInside:
		return location{relPath: name, physicalPath: real, leadsOutside: !realInside}
	case realInside:
		return location{relPath: realName, physicalPath: real}
	}
	return location{physicalPath: real}
}

// relativeWithin returns path relative to root; false if it is outside.
func relativeWithin(root, path string) (string, bool) {
	rel, err := filepath.Rel(root, path)
	if err != nil || !filepath.IsLocal(rel) {
		return "", false
	}
	return rel, true
}

// resolveLinks is filepath.EvalSymlinks for a path whose last parts may not exist.
func resolveLinks(path string) string {
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		return real
	}
	parent := filepath.Dir(path)
	if parent == path || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return path
	}
	return filepath.Join(resolveLinks(parent), filepath.Base(path))
}

// errOtherHome reports a path ~name/…, which only a shell expands.
var errOtherHome = errors.New(`only "~" and "~/…" are expanded; write the full path of another user's home directory`)

// expandPath makes path absolute: ~ is the user's home and everything else is relative to root.
func expandPath(root, path string) (string, error) {
	switch {
	case path == "~", strings.HasPrefix(path, "~/"):
		home, err := homeDir()
		return filepath.Join(home, path[1:]), err
	case strings.HasPrefix(path, "~"):
		return "", errOtherHome
	case filepath.IsAbs(path):
		return filepath.Clean(path), nil
	}
	return filepath.Join(root, path), nil
}

// homeDir returns the home directory in the password database, because ssh uses that one; $HOME if there is none.
func homeDir() (string, error) {
	if u, err := user.Current(); err == nil && u.HomeDir != "" {
		return u.HomeDir, nil
	}
	return os.UserHomeDir()
}
