package eventlog

import "golang.org/x/sys/unix"

// dup2 makes newFD refer to the same open file as oldFD. It uses dup3, because Linux on arm64 has no dup2.
func dup2(oldFD, newFD int) error { return unix.Dup3(oldFD, newFD, 0) }
