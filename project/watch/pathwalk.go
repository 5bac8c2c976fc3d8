package watch

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// pathEntry is a name in a physical directory. Which file a path resolves to depends on one entry for each of its parts, and
// for each part of the symbolic links on it.
type pathEntry struct {
	dir, name string
	// isAncestor: the entry is a directory on the path, not a link or the file. Its removal or replacement is usually reported by the
	// entries in it too.
	isAncestor bool
	isFile     bool   // the entry is a regular file or a socket
	id         fileID // of the entry; zero if there is none
}

// maxLinks is the number of symbolic links that Linux follows before it fails with ELOOP (path_resolution(7)); macOS follows fewer.
const maxLinks = 40

// pathWalker walks paths, and looks once at what they have in common.
type pathWalker map[string]lstatResult

type lstatResult struct {
	info fs.FileInfo
	err  error
}

func (w pathWalker) lstat(path string) (fs.FileInfo, error) {
	result, isKnown := w[path]
	if !isKnown {
		result.info, result.err = os.Lstat(path)
		w[path] = result
	}
	return result.info, result.err
}

// walk returns the entries that decide what path resolves to, down to the file or to the first entry that does not exist, which is the next one
// that can appear.
func (w pathWalker) walk(path string) []pathEntry {
	var entries []pathEntry
	dir, rest, links := "/", strings.Split(path, "/"), 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			dir = filepath.Dir(dir)
			continue
		}
		entryPath := filepath.Join(dir, name)
		info, err := w.lstat(entryPath)
		if err != nil {
			return append(entries, pathEntry{dir: dir, name: name})
		}
		entries = append(entries, pathEntry{dir, name, info.IsDir(), info.Mode()&(fs.ModeType&^fs.ModeSocket) == 0, idOf(info)})
		if !info.IsDir() && info.Mode()&os.ModeSymlink == 0 {
			return entries
		}
		if info.IsDir() {
			dir = entryPath
			continue
		}
		target, err := os.Readlink(entryPath)
		if links++; err != nil || links > maxLinks {
			return entries
		}
		if filepath.IsAbs(target) {
			dir = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return entries
}
