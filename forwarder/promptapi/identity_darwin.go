package promptapi

import (
	"os"
	"syscall"
)

func executablePath() string {
	path, _ := os.Executable()
	return path
}

func modificationTime(stat *syscall.Stat_t) (seconds, nanoseconds int64) {
	return stat.Mtimespec.Unix()
}
