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

// walkPath returns the entries that decide what path resolves to, down to the file or to the first entry that does not exist, which is the next one
// that can appear.
func walkPath(path string) []pathEntry {
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
		info, err := os.Lstat(entryPath)
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
