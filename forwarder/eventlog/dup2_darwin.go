package eventlog

import "golang.org/x/sys/unix"

// dup2 makes newFD refer to the same open file as oldFD.
func dup2(oldFD, newFD int) error { return unix.Dup2(oldFD, newFD) }
