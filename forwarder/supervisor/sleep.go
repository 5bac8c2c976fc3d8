package supervisor

import (
	"context"
	"time"

	"github.com/localport-sh/localport/forwarder/netmon"
)

// sleepCheck is how often it is looked whether the machine has slept; leastSleep is what counts as sleep. The look is
// also the pulse on which tunnels' processes are looked at.
const (
	sleepCheckInterval = 5 * time.Second
	minSleepTime       = 2 * time.Second
)

// watchSleep calls woke each time the machine has slept, until ctx ends. slept is how long it has in all.
func watchSleep(ctx context.Context, slept func() time.Duration, woke func(time.Duration)) {
	tick := time.NewTicker(sleepCheckInterval)
	defer tick.Stop()
	before := slept()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := slept()
		if now-before >= minSleepTime {
			woke(now - before)
		}
		before = now
	}
}

// onWake has everything looked at anew after the machine has slept.
func (s *Supervisor) onWake(after time.Duration) {
	s.log.Info("the machine has slept", "for", after.Round(time.Second))
	s.active.Load().networkChanged()
}

// watchNetwork has everything looked at anew when the machine's network has changed, until ctx ends.
func (s *Supervisor) watchNetwork(ctx context.Context) {
	err := netmon.Watch(ctx, func() {
		s.log.Info("the network has changed")
		s.active.Load().networkChanged()
	})
	if err != nil {
		s.log.Warn("changes of the network are not seen", "error", err)
	}
}
