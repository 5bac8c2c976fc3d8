package supervisor

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder/netmon"
	"github.com/localport-sh/localport/forwarder/wait"
)

// sleepCheckInterval is the time between checks for a sleep of the machine where the kernel does not tell of one, slowSleepCheckInterval where it does;
// minSleepTime is the shortest that counts.
const (
	sleepCheckInterval     = 5 * time.Second
	slowSleepCheckInterval = 30 * time.Second
	minSleepTime           = 2 * time.Second
)

// watchSleep calls onWake each time the machine has slept, until ctx ends. sleepTime returns how long it has slept in total. clockSetCh receives when it
// may have slept, or is nil.
func watchSleep(ctx context.Context, clockSetCh <-chan struct{}, sleepTime func() time.Duration, onWake func(time.Duration)) {
	interval := sleepCheckInterval
	if clockSetCh != nil {
		interval = slowSleepCheckInterval
	}
	timer := wait.NewLongTimer(interval)
	defer timer.Stop()
	for before := sleepTime(); ; {
		timer.Reset(wait.AlignDelay(interval))
		select {
		case <-ctx.Done():
			return
		case <-clockSetCh:
		case <-timer.C:
		}
		now := sleepTime()
		if now-before >= minSleepTime {
			onWake(now - before)
		}
		before = now
	}
}

// watchMachineSleep is watchSleep for this machine.
func (s *Supervisor) watchMachineSleep(ctx context.Context) {
	events, err := openClockEvents()
	if err != nil {
		if !errors.Is(err, errors.ErrUnsupported) {
			s.log.Warn("the kernel does not tell when the machine has slept; checking at intervals", "error", err)
		}
		watchSleep(ctx, nil, sleepTime, s.onWake)
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer events.close()
	clockSetCh := make(chan struct{}, 1)
	wg.Go(func() { events.read(func() { wait.Notify(clockSetCh) }) })
	watchSleep(ctx, clockSetCh, sleepTime, s.onWake)
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
