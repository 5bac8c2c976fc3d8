package supervisor

import (
	"context"
	"sync"

	"github.com/localport-sh/localport/lockstate"
)

// leaseWatcher waits for the processes that hold leases to exit. It is safe for concurrent use.
type leaseWatcher struct {
	mu        sync.Mutex // guards all
	stopWatch map[lockstate.Process]func()
}

// setLeases watches exactly the processes of these leases. onExit is called when one exits.
func (w *leaseWatcher) setLeases(leases []lockstate.Lease, startTask func(func(context.Context)) func(), onExit func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	wanted := make(map[lockstate.Process]bool, len(leases))
	for _, lease := range leases {
		if lease.Kind == lockstate.StartLease {
			continue
		}
		p, isVisible := lease.VisibleProcess()
		if !isVisible {
			continue // the leases are read again after leaseInterval
		}
		wanted[p] = true
		if w.stopWatch[p] == nil {
			w.stopWatch[p] = startTask(func(ctx context.Context) {
				if lockstate.WaitExit(ctx, p) == nil {
					onExit()
				}
			})
		}
	}
	for p, end := range w.stopWatch {
		if !wanted[p] {
			end()
			delete(w.stopWatch, p)
		}
	}
}

// close ends all watches.
func (w *leaseWatcher) close() {
	w.setLeases(nil, nil, nil)
}
