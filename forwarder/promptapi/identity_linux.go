package promptapi

import "syscall"

// executablePath names the file that the kernel has started, also after it was deleted or replaced.
func executablePath() string { return "/proc/self/exe" }

func modificationTime(stat *syscall.Stat_t) (seconds, nanoseconds int64) { return stat.Mtim.Unix() }
