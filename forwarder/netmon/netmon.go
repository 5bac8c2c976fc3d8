// Package netmon tells when this machine's network has changed: an interface up or down, an address, a default route. It
// listens to what the kernel says of that by itself, and costs nothing while nothing changes.
package netmon

import (
	"context"
	"time"

	"github.com/localport-sh/localport/forwarder/wait"
)

// settled is how long nothing must change for a change to be over: an interface that comes up gets its addresses and its
// routes one after the other.
const settled = 500 * time.Millisecond

// Watch calls changed when the network has changed, at once, and once more when a change that went on is over; never twice at
// the same time. It returns nil when ctx ends, and an error when it cannot watch.
func Watch(ctx context.Context, changed func()) error {
	source, err := open()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = source.close() })()
	events := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- source.read(func() { wait.Notify(events) })
	}()
	tell(ctx, events, changed, ended)
	_ = source.close()
	err = <-ended
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// tell makes few words of many events, until ctx ends or the source does.
func tell(ctx context.Context, events <-chan struct{}, changed func(), ended chan error) {
	calm := time.NewTimer(settled)
	calm.Stop()
	defer calm.Stop()
	going, more := false, false
	for {
		select {
		case <-ctx.Done():
			return
		case err := <-ended:
			ended <- err
			return
		case <-events:
			if going {
				more = true
			} else {
				changed()
			}
			going = true
			calm.Reset(settled)
		case <-calm.C:
			if more {
				changed()
			}
			going, more = false, false
		}
	}
}
