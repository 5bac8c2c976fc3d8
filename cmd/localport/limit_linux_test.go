package main

import (
	"testing"

	"golang.org/x/sys/unix"
)

// limitFileSize has the disk be full for a process: it may write no file beyond a size.
func limitFileSize(t *testing.T, pid int, size uint64) {
	t.Helper()
	limit := unix.Rlimit{Cur: size, Max: unix.RLIM_INFINITY}
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &limit, nil); err != nil {
		t.Fatal(err)
	}
}
