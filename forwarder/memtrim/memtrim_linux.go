package memtrim

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// dropProgramPages drops the executable's read-only pages, and the code of shared libraries, from this process's memory (libc's is
// 1 MB, needed to start a thread). No data is lost (madvise(2), MADV_DONTNEED: "subsequent accesses … repopulat[e] the memory contents
// from the up-to-date contents of the underlying mapped file").
func dropProgramPages() {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	var mappings [][2]uintptr
	for line := range strings.Lines(string(maps)) {
		if from, to, ok := parseDroppableMapping(line, exe); ok {
			mappings = append(mappings, [2]uintptr{from, to})
		}
	}
	// Parsing is finished before the first page is dropped: it would map the pages again that it executes, with 64 kB around
	// each (0.8 MB in all).
	for _, mapping := range mappings {
		_, _, _ = unix.RawSyscall(unix.SYS_MADVISE, mapping[0], mapping[1]-mapping[0], unix.MADV_DONTNEED)
	}
}

// parseDroppableMapping parses a line of /proc/self/maps (proc_pid_maps(5)). It is ok for a private mapping of a file whose pages equal
// those of the file: what is read-only in the executable exe, and what can be executed in any file. A library's other read-only pages
// may have been relocated before they became read-only (ld(1), -z relro): they would be lost.
func parseDroppableMapping(line, exe string) (from, to uintptr, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 6 {
		return 0, 0, false
	}
	isCode := fields[1] == "r-xp" && strings.HasPrefix(fields[5], "/")
	if !isCode && (fields[1] != "r--p" || fields[5] != exe) {
		return 0, 0, false
	}
	low, high, _ := strings.Cut(fields[0], "-")
	start, startErr := strconv.ParseUint(low, 16, 64)
	end, endErr := strconv.ParseUint(high, 16, 64)
	return uintptr(start), uintptr(end), startErr == nil && endErr == nil && 0 < start && start < end
}
