// Package filelimit is the limit of open files (RLIMIT_NOFILE) of a supervisor, and what it needs of them.
package filelimit

import (
	"fmt"
	"math/bits"
	"syscall"

	"github.com/localport-sh/localport/project"
)

// maxLimit is what a limit counts for at most: "unlimited" is a number too, and there are no more connections than this from
// one address to another.
const maxLimit = 1 << 20

// Current is the limit of this process. It is the hard limit less one already, where the soft one was lower: Go raises it when
// a program starts (syscall/rlimit.go, since Go 1.19), and has the children begin with the soft limit that it found, unless
// the program itself calls syscall.Setrlimit.
func Current() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return maxLimit
	}
	return int(min(uint64(limit.Cur), maxLimit))
}

// What a supervisor has open, in descriptors. The first was measured on Linux, on a supervisor with a keeper and one tcp
// service: standard input and output (3), the runtime's poller (2) and its cgroup files (2), log, events, election,
// control socket, inotify, netlink, the keeper's socket and its pidfd.
const (
	base        = 15
	clients     = 32 // of the control socket: prompts, commands, "status -w", "logs -f", the metrics' scrapers
	momentary   = 24 // the state and its lock, config files, pipes to a child that is being started, a listener's copies
	pipes       = 32 // what relays copy through: 16 pipes at most (forwarder/relay)
	leases      = 16 // pidfds of shells: so many are counted at least
	perService  = 6  // its log, and of its tunnel: two pipes and the pidfd of a child, a socket, a spare one
	perListener = 2  // with the client that waits for a seat
	perCheck    = 2
	checks      = 8 // at once
	minClients  = 1 // of each service
	perClient   = 2
)

// Reserve is how many descriptors a supervisor needs for everything but the clients of its services.
func Reserve(services []project.Service, shells int) int {
	n := base + clients + momentary + pipes + max(leases, shells) + perCheck*min(checks, len(services))
	for _, svc := range services {
		n += perService + perListener*len(svc.ListenAddresses())
	}
	return n
}

// Check is a *TooLowError if a process with this limit cannot keep the services up, each for one client.
func Check(limit int, services []project.Service) error {
	if needed := Reserve(services, 0) + perClient*minClients*len(services); limit < needed {
		return &TooLowError{Limit: limit, Needed: needed}
	}
	return nil
}

// TooLowError says that the limit is below what the config needs.
type TooLowError struct{ Limit, Needed int }

// Error says what to do as well.
func (e *TooLowError) Error() string {
	return fmt.Sprintf("too few file descriptors: limit is %d, at least %d are needed: raise it with \"ulimit -n %d\"",
		e.Limit, e.Needed, e.enough())
}

// enough is a usual limit above what is needed.
func (e *TooLowError) enough() int { return max(1024, 1<<bits.Len(uint(e.Needed))) }
