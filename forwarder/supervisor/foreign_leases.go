package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
)

// foreignLeases has pidfds of processes that hold leases and are not visible in this PID namespace: those of other containers, for example. The
// keeper has copies for the next supervisor. It is safe for concurrent use.
type foreignLeases struct {
	mu   sync.Mutex // guards held
	held map[string]*foreignLease
}

type foreignLease struct {
	lease      lockstate.Lease
	receivedAt time.Time
	unmark     func()
	stop       func()        // stops watching, and waits for that
	releasedCh chan struct{} // closed when the lease was released: the keeper drops its copy
}

// foreignHoldPrefix begins the names under which the keeper holds pidfds.
const foreignHoldPrefix = "lease "

func foreignHoldName(l lockstate.Lease) string {
	return fmt.Sprintf("%s%s %d %d %d", foreignHoldPrefix, l.Kind, l.PIDNamespace, l.PID, l.Start)
}

// foreignGrace is how long a pidfd is kept whose lease is not in the state: it may have been read before the lease was written.
const foreignGrace = 10 * time.Second

// holdForeignLease watches the process of a lease by its pidfd, which it closes.
func (s *Supervisor) holdForeignLease(lease lockstate.Lease, pidfd *os.File) {
	name := foreignHoldName(lease)
	s.foreign.mu.Lock()
	defer s.foreign.mu.Unlock()
	if _, isKnown := s.foreign.held[name]; isKnown {
		pidfd.Close()
		return
	}
	if s.foreign.held == nil {
		s.foreign.held = make(map[string]*foreignLease)
	}
	f := &foreignLease{lease: lease, receivedAt: time.Now(), unmark: lease.MarkAlive(), releasedCh: make(chan struct{})}
	s.foreign.held[name] = f
	f.stop = s.startTask(func(ctx context.Context) { s.watchForeignLease(ctx, name, f, pidfd) })
}

// watchForeignLease releases a lease when its process has ended, unless ctx ends first.
func (s *Supervisor) watchForeignLease(ctx context.Context, name string, f *foreignLease, pidfd *os.File) {
	defer pidfd.Close()
	defer f.unmark()
	held := s.keeper.hold(name, func() ([]*os.File, error) { return copyPIDFD(pidfd) })
	err := lockstate.WaitPIDFD(ctx, pidfd)
	if ctx.Err() != nil {
		if wait.IsClosed(f.releasedCh) {
			s.keeper.drop(held)
		}
		return
	}
	s.keeper.drop(held)
	if err == nil {
		s.store.add(func(state *lockstate.State) { state.RemoveLeaseAsOf(f.lease, time.Time{}) })
	}
	f.unmark()
	s.foreign.mu.Lock()
	delete(s.foreign.held, name)
	s.foreign.mu.Unlock()
	wait.Notify(s.leasesChangedCh)
}

// copyPIDFD returns a copy of a pidfd. (File.Fd would make the original blocking, and so end the wait for it.)
func copyPIDFD(pidfd *os.File) ([]*os.File, error) {
	raw, err := pidfd.SyscallConn()
	if err != nil {
		return nil, err
	}
	copied := 0
	controlErr := raw.Control(func(fd uintptr) { copied, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(err, controlErr); err != nil {
		return nil, fmt.Errorf("copy a pidfd: %w", err)
	}
	return []*os.File{os.NewFile(uintptr(copied), pidfd.Name())}, nil
}

// keepForeignLeases stops watching the processes of leases that are not among these.
func (s *Supervisor) keepForeignLeases(leases []lockstate.Lease) {
	wanted := make(map[string]bool, len(leases))
	for _, lease := range leases {
		wanted[foreignHoldName(lease)] = true
	}
	stops := s.dropForeignLeases(func(name string, f *foreignLease) bool {
		isReleased := !wanted[name] && time.Since(f.receivedAt) > foreignGrace
		if isReleased {
			close(f.releasedCh)
		}
		return isReleased
	})
	for _, stop := range stops {
		s.tasks.Go(stop) // it asks the keeper
	}
}

// closeForeignLeases stops watching all processes. The keeper keeps its copies.
func (s *Supervisor) closeForeignLeases() {
	for _, stop := range s.dropForeignLeases(func(string, *foreignLease) bool { return true }) {
		stop()
	}
}

// dropForeignLeases forgets some leases and returns the functions that stop watching their processes.
func (s *Supervisor) dropForeignLeases(isDropped func(string, *foreignLease) bool) (stops []func()) {
	s.foreign.mu.Lock()
	defer s.foreign.mu.Unlock()
	for name, f := range s.foreign.held {
		if isDropped(name, f) {
			delete(s.foreign.held, name)
			stops = append(stops, f.stop)
		}
	}
	return stops
}

// holdInheritedLeases takes over the pidfds that the keeper has held.
func (s *Supervisor) holdInheritedLeases() {
	for _, name := range s.inherited.names() {
		if !strings.HasPrefix(name, foreignHoldPrefix) {
			continue
		}
		var l lockstate.Lease
		_, err := fmt.Sscanf(strings.TrimPrefix(name, foreignHoldPrefix), "%s %d %d %d", &l.Kind, &l.PIDNamespace, &l.PID, &l.Start)
		for i, file := range s.inherited.take(name) {
			if err != nil || i > 0 {
				file.Close()
				continue
			}
			s.holdForeignLease(l, file)
		}
	}
}
