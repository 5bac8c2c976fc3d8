// Package coredump keeps the memory of a process, which holds secrets, out of core dumps.
package coredump

import (
	"runtime"
	"syscall"
)

// Disable prevents core dumps of this process, and of the programs that it starts unless they raise their soft limit: the hard limit is not
// changed. Go restores only the limit of open files in children.
//
// On Linux the limit is one byte: a core file would be larger, and a program in core_pattern, which is started even for a limit of 0, is not
// started (core(5), "Piping core dumps to a program"; fs/coredump.c of the kernel). The process stays dumpable in the sense of prctl(2),
// because the system shows the descriptors of such a process only, and LocalPort finds out from them who has a port.
func Disable() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &limit); err != nil {
		return err
	}
	limit.Cur = 0
	if runtime.GOOS == "linux" {
		limit.Cur = min(1, limit.Max)
	}
	return syscall.Setrlimit(syscall.RLIMIT_CORE, &limit)
}
