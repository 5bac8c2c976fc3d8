package tcp

import "golang.org/x/sys/unix"

// One retransmission of the SYN: an unanswered connect fails after about 3 s (tcp(7)).
const (
	connectLimitOption = unix.TCP_SYNCNT
	connectLimit       = 1
)
