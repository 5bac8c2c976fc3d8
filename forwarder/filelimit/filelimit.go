// Package filelimit computes how many open files a supervisor may have (RLIMIT_NOFILE) and how many it needs.
package filelimit

import (
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"syscall"

	"github.com/localport-sh/localport/project"
)

// maxCountedLimit is the highest limit that Current returns: "unlimited" is a huge number, and no more connections than this are
// possible from one address to another.
const maxCountedLimit = 1 << 20

// Current returns the limit of this process. If the soft limit was lower than the hard one, it is the hard one less one already:
// the Go runtime raises it at the start of a program (syscall/rlimit.go, since Go 1.19), and restores the original soft limit in
// children unless the program calls syscall.Setrlimit.
func Current() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return maxCountedLimit
	}
	return int(min(uint64(limit.Cur), maxCountedLimit))
}

// HasFree reports whether n descriptors are free. False if that cannot be found out.
//
// The open ones are counted. To ask the kernel for a descriptor near the limit would be simpler, but its table, which never shrinks, has 8 bytes
// for each number up to the highest one that was ever used: 8 MB at a limit of a million, which no process shows as its memory.
func HasFree(n int) bool {
	open, err := countOpenDescriptors()
	return err == nil && Current()-open >= n
}

// countOpenDescriptors returns how many descriptors this process has open.
func countOpenDescriptors() (int, error) {
	path := "/dev/fd"
	if runtime.GOOS == "linux" {
		path = "/proc/self/fd"
		// Its size is their number since Linux 6.2, and 0 before.
		if info, err := os.Stat(path); err == nil && info.Size() > 0 {
			return int(info.Size()), nil
		}
	}
	return countListedDescriptors(path)
}

// countListedDescriptors counts the open descriptors that a directory lists.
func countListedDescriptors(path string) (int, error) {
	dir, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	return len(names) - 1, err // without that of the directory
}

// What a supervisor has open, in file descriptors. baseFiles was measured on Linux, on a supervisor with a keeper and one tcp
// service: standard input, output and error (3), the runtime's poller (2) and its cgroup files (2), log, events, election, the lock of the
// run's directory, control socket, inotify (2), timers (2), netlink, the keeper's socket and its pidfd.
const (
	baseFiles            = 19
	controlClientFiles   = 32 // connections to the control socket: prompts, commands, "status -w", "logs -f", metrics scrapers
	temporaryFiles       = 24 // open for moments: the state and its lock, config files, pipes to a starting child, duplicated listeners
	relayPipeFiles       = 32 // the relays splice through at most 16 pipes (maxPipesInUse in forwarder/relay)
	minLeaseFiles        = 16 // at least as many pidfds of shells are reserved
	filesPerService      = 6  // its log, and for its tunnel two pipes and the pidfd of a child, a socket, one to spare
	filesPerListener     = 2  // with the accepted client that waits for a slot
	filesPerCheck        = 2
	maxConcurrentChecks  = 8
	minClientsPerService = 1
	filesPerClient       = 2
)

// Reserve returns how many descriptors a supervisor needs for everything but its services' clients. users are its leases, and its connections to
// other projects that share a service.
func Reserve(services []project.Service, users int) int {
	n := baseFiles + controlClientFiles + temporaryFiles + relayPipeFiles + max(minLeaseFiles, users) + filesPerCheck*min(maxConcurrentChecks, len(services))
	for _, svc := range services {
		n += filesPerService + filesPerListener*len(svc.ListenAddresses())
		if svc.Bridge != "" {
			n += filesPerListener
		}
	}
	return n
}

// Check returns a *TooLowError if a process with this limit cannot run the services with one client each.
func Check(limit int, services []project.Service) error {
	if needed := Reserve(services, 0) + filesPerClient*minClientsPerService*len(services); limit < needed {
		return &TooLowError{Limit: limit, Needed: needed}
	}
	return nil
}

// TooLowError is Check's error.
type TooLowError struct{ Limit, Needed int }

// Error includes the command that raises the limit.
func (e *TooLowError) Error() string {
	return fmt.Sprintf("too few file descriptors: limit is %d, at least %d are needed: raise it with \"ulimit -n %d\"",
		e.Limit, e.Needed, e.suggestedLimit())
}

// suggestedLimit returns a usual value that is high enough.
func (e *TooLowError) suggestedLimit() int { return max(1024, 1<<bits.Len(uint(e.Needed))) }
