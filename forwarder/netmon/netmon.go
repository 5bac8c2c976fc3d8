// Package netmon reports changes of this machine's network: an interface up or down, an address, a default route. It waits for
// the kernel's notifications, and so costs nothing while nothing changes.
package netmon

import (
	"context"
	"time"

	"github.com/localport-sh/localport/forwarder/wait"
)

// debounceInterval is how long the network must be quiet until a change counts as over: an interface that comes up gets its addresses
// and routes one after another.
const debounceInterval = 500 * time.Millisecond

// Watch calls onChange at the first event of a change, and once more after the last one if there were several; never concurrently.
// It returns nil when ctx ends, and an error if it cannot watch.
func Watch(ctx context.Context, onChange func()) error {
	source, err := openSource()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = source.close() })()
	eventCh := make(chan struct{}, 1)
	endedCh := make(chan error, 1)
	go func() {
		endedCh <- source.readEvents(func() { wait.Notify(eventCh) })
	}()
	notifyDebounced(ctx, eventCh, onChange, endedCh)
	_ = source.close()
	err = <-endedCh
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// notifyDebounced calls onChange at the start and the end of each burst of events, until ctx or the source ends. It leaves the
// source's error in endedCh.
func notifyDebounced(ctx context.Context, eventCh <-chan struct{}, onChange func(), endedCh chan error) {
	quietTimer := time.NewTimer(debounceInterval)
	quietTimer.Stop()
	defer quietTimer.Stop()
	isChanging, hasMore := false, false
	for {
		select {
		case <-ctx.Done():
			return
		case err := <-endedCh:
			endedCh <- err
			return
		case <-eventCh:
			if isChanging {
				hasMore = true
			} else {
				onChange()
			}
			isChanging = true
			quietTimer.Reset(debounceInterval)
		case <-quietTimer.C:
			if hasMore {
				onChange()
			}
			isChanging, hasMore = false, false
		}
	}
}
