package lockstate

import (
	"context"
	"time"
)

// pollExit is WaitExit without pidfd or kqueue: it checks once a second.
func pollExit(ctx context.Context, p Process) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for p.IsAlive() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}
