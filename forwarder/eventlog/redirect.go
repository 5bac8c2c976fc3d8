package eventlog

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// redirectStdio redirects standard output and error to file, the log file at path, if they refer to a former file of that path.
func redirectStdio(path string, file *os.File) {
	for _, std := range []*os.File{os.Stdout, os.Stderr} {
		if info, err := std.Stat(); err == nil && info.Mode().IsRegular() && isFormerLogFile(path, info) {
			_ = dup2(int(file.Fd()), int(std.Fd()))
		}
	}
}

// isFormerLogFile reports whether a file was the log file at path before: it has been rotated, or unlinked.
func isFormerLogFile(path string, info fs.FileInfo) bool {
	if isUnlinked(info) {
		return true
	}
	found := false
	_ = forEachFile(filepath.Dir(path), func(name string, n int, other fs.FileInfo) error {
		found = found || n > 0 && name == filepath.Base(path) && os.SameFile(other, info)
		return nil
	})
	return found
}

// isUnlinked reports whether an open file has been unlinked.
func isUnlinked(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Nlink == 0
}
