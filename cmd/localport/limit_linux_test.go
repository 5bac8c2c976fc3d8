package main

import (
	"testing"

	"golang.org/x/sys/unix"
)

// limitFileSize limits the size of the files that a process may write: with 0, the disk is full for it.
func limitFileSize(t *testing.T, pid int, size uint64) {
	t.Helper()
	limit := unix.Rlimit{Cur: size, Max: unix.RLIM_INFINITY}
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &limit, nil); err != nil {
		t.Fatal(err)
	}
}
