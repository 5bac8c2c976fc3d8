package promptapi

import (
	"strconv"
	"syscall"
)

// DirID identifies a directory: two paths with the same id name the same one, in the same mount namespace and below the same root. It is empty
// if there is no such directory.
func DirID(path string) string {
	var stat syscall.Stat_t
	if syscall.Stat(path, &stat) != nil {
		return ""
	}
	return identify(&stat)
}

// ExecutableID identifies the file of the running program: an upgrade writes another one. It is empty if it is not known.
func ExecutableID() string {
	var stat syscall.Stat_t
	if path := executablePath(); path == "" || syscall.Stat(path, &stat) != nil {
		return ""
	}
	seconds, nanoseconds := modificationTime(&stat)
	return identify(&stat) + ":" + strconv.FormatInt(stat.Size, 10) + ":" + strconv.FormatInt(seconds, 10) + "." + strconv.FormatInt(nanoseconds, 10)
}

func identify(stat *syscall.Stat_t) string {
	//nolint:unconvert // the types of the fields differ between systems
	return strconv.FormatUint(uint64(stat.Dev), 10) + ":" + strconv.FormatUint(uint64(stat.Ino), 10)
}
