package supervisor

import (
	"context"
	"time"

	"github.com/localport-sh/localport/forwarder/netmon"
)

// sleepCheckInterval is the time between checks for a sleep of the machine; minSleepTime is the shortest that counts.
const (
	sleepCheckInterval = 5 * time.Second
	minSleepTime       = 2 * time.Second
)

// watchSleep calls onWake each time the machine has slept, until ctx ends. sleepTime returns how long it has slept in total.
func watchSleep(ctx context.Context, sleepTime func() time.Duration, onWake func(time.Duration)) {
	tick := time.NewTicker(sleepCheckInterval)
	defer tick.Stop()
	before := sleepTime()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := sleepTime()
		if now-before >= minSleepTime {
			onWake(now - before)
		}
		before = now
	}
}

// onWake has every service check its tunnel after the machine has slept.
func (s *Supervisor) onWake(after time.Duration) {
	s.log.Info("the machine has slept", "for", after.Round(time.Second))
	s.active.Load().networkChanged()
}

// watchNetwork has every service check its tunnel when the machine's network changes, until ctx ends.
func (s *Supervisor) watchNetwork(ctx context.Context) {
	err := netmon.Watch(ctx, func() {
		s.log.Info("the network has changed")
		s.active.Load().networkChanged()
	})
	if err != nil {
		s.log.Warn("cannot watch the network", "error", err)
	}
}
