package supervisor

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// maxPathDirectories limits the directories of PATH: each shell may have others.
const maxPathDirectories = 100

// appendPath returns the PATH ours with the directories of another one behind it: what is found in ours is found there first. Only a directory that
// nobody but root and this user can change is appended. It looks at directories, whose disk may be slow.
func appendPath(ours, other string) string {
	directories := filepath.SplitList(ours)
	for _, directory := range filepath.SplitList(other) {
		if len(directories) < maxPathDirectories && !slices.Contains(directories, directory) && isTrustedDirectory(directory) {
			directories = append(directories, directory)
		}
	}
	return strings.Join(directories, string(filepath.ListSeparator))
}

// isTrustedDirectory reports whether a path is that of a directory, and neither it nor a directory above it can be changed or replaced by other users
// than root and this one.
func isTrustedDirectory(path string) bool {
	if !filepath.IsAbs(path) {
		return false
	}
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false
	}
	info, err := os.Stat(target)
	return err == nil && info.IsDir() && info.Mode().Perm()&0o022 == 0 && isTrustedPath(filepath.Clean(path)) && isTrustedPath(target)
}

// isTrustedPath reports whether every part of an absolute path belongs to root or this user, and none is a directory in which other users can replace
// what is not theirs.
func isTrustedPath(path string) bool {
	for {
		info, err := os.Lstat(path)
		if err != nil {
			return false
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		isOwned := ok && (stat.Uid == 0 || int(stat.Uid) == os.Getuid())
		isWritable := info.IsDir() && info.Mode().Perm()&0o022 != 0 && info.Mode()&os.ModeSticky == 0
		if !isOwned || isWritable {
			return false
		}
		parent := filepath.Dir(path)
		if parent == path {
			return true
		}
		path = parent
	}
}
