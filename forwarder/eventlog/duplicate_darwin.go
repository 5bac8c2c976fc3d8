package eventlog

import "golang.org/x/sys/unix"

// dup2 makes the descriptor to lead where from does.
func dup2(from, to int) error { return unix.Dup2(from, to) }
