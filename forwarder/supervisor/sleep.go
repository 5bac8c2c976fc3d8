package supervisor

import (
	"context"
	"time"

	"github.com/localport-sh/localport/forwarder/netmon"
	"github.com/localport-sh/localport/forwarder/wait"
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
	s.onNetworkChange()
}

// onNetworkChange has the drivers forget failures of the previous network, and every service check its tunnel.
func (s *Supervisor) onNetworkChange() {
	s.drivers.onNetworkChange()
	s.active.Load().onNetworkChange()
	s.onBridgesChange()
}

// watchNetwork has every service check its tunnel when the machine's network changes, until ctx ends. Where it cannot watch, it retries.
func (s *Supervisor) watchNetwork(ctx context.Context) {
	for backoff := (wait.Backoff{First: time.Second, Max: time.Minute}); ; {
		startedAt := time.Now()
		err := netmon.Watch(ctx, func() {
			s.log.Info("the network has changed")
			s.onNetworkChange()
		})
		if ctx.Err() != nil {
			return
		}
		if time.Since(startedAt) > backoff.Max {
			backoff.Reset()
		}
		delay := backoff.Next()
		s.log.Warn("cannot watch the network; retrying", "error", err, "after", delay)
		if !wait.Sleep(ctx, delay) {
			return
		}
	}
}
