package process

import "golang.org/x/sys/unix"

func isMountedNoexec(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && fs.Flags&unix.MNT_NOEXEC != 0
}

// elfLoader returns "": macOS does not execute ELF programs.
func elfLoader(string) string { return "" }
