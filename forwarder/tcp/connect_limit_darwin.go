package tcp

import "golang.org/x/sys/unix"

// An unanswered connect fails after 4 s (tcp(4)).
const (
	connectLimitOption = unix.TCP_CONNECTIONTIMEOUT
	connectLimit       = 4
)
