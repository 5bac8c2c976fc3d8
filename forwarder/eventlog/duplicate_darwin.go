package eventlog

import "golang.org/x/sys/unix"

// duplicate makes the descriptor to lead where from does.
func duplicate(from, to int) error { return unix.Dup2(from, to) }
