package lockstate

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// portLockInterval is the time between attempts to lock the user's ports.
const portLockInterval = time.Millisecond

// LockPorts keeps the user's other supervisors from binding ports until release is called. If ctx ends before another one has released them, or
// if the file system has no locks, the ports are not locked: what a lock prevents is a second login, not an error.
func LockPorts(ctx context.Context) (release func()) {
	home, err := StateHome()
	if err != nil {
		return func() {}
	}
	dir, err := os.Open(home) // flock(2) locks directories too, and this one is not locked otherwise
	if err != nil {
		return func() {}
	}
	for flockNonblocking(dir, unix.LOCK_EX) != nil {
		select {
		case <-ctx.Done():
			dir.Close()
			return func() {}
		case <-time.After(portLockInterval):
		}
	}
	return func() { dir.Close() }
}
