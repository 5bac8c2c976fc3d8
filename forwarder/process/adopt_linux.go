package process

import (
	"context"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// orphanLooks is how often, zombieInterval apart, an unknown child must be found dead before it is reaped. A child that this process has
// started itself is waited for at once.
const (
	orphanLooks    = 3
	zombieInterval = time.Second
)

// AdoptOrphans makes this process the parent of the processes that its descendants leave behind, whatever they have changed in their
// session and environment, and reaps them until ctx ends. Children inherit nothing of this.
func AdoptOrphans(ctx context.Context) error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	deathCh := make(chan os.Signal, 1)
	signal.Notify(deathCh, unix.SIGCHLD)
	defer signal.Stop(deathCh)
	seen := make(map[int]int) // how often a pid was a zombie
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-deathCh:
		}
		for isLooking := true; isLooking; isLooking = len(seen) > 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(zombieInterval):
			}
			seen = reapOrphans(seen)
		}
	}
}

// reapOrphans reaps the zombies that were seen orphanLooks-1 times, and returns the others.
func reapOrphans(seen map[int]int) map[int]int {
	if !hasZombie() {
		return nil
	}
	remaining := make(map[int]int)
	for _, p := range readProcessTable() {
		switch {
		case p.parent != os.Getpid() || !p.isZombie || ownChildren.contains(p.PID):
		case seen[p.PID]+1 < orphanLooks:
			remaining[p.PID] = seen[p.PID] + 1
		default:
			_, _ = unix.Wait4(p.PID, nil, unix.WNOHANG, nil)
		}
	}
	return remaining
}

// hasZombie reports whether a child has ended and nobody has waited for it.
func hasZombie() bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err == nil && info.Signo != 0
}
