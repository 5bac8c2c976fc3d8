// Package wait has functions and types for waiting that the standard library lacks: sleeping, backoff, notification.
package wait

import (
	"context"
	"sync"
	"time"
)

// Notify sends to a channel of capacity 1, unless it is full: one pending signal stands for any number. It never blocks.
func Notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Replace sends a value to a channel of capacity 1, and discards a value that was not received yet. It never blocks.
func Replace[T any](c chan T, value T) {
	for {
		select {
		case c <- value:
			return
		default:
		}
		select {
		case <-c:
		default:
		}
	}
}

// Sleep returns true after d, or false as soon as ctx is done.
func Sleep(ctx context.Context, d time.Duration) bool { return SleepOrWake(ctx, d, nil) }

// SleepOrWake returns true after d or as soon as wakeCh is closed or receives, or false as soon as ctx is done. wakeCh may be
// nil.
func SleepOrWake(ctx context.Context, d time.Duration, wakeCh <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wakeCh:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// suspensionTolerance is how late a timer may be before it shows that this process, or the machine, was suspended.
const suspensionTolerance = time.Second

// WasSuspended reports whether a timer for d that was started at start has fired so late that this process, or the machine, was suspended
// meanwhile: what was to come within d may have come in time.
func WasSuspended(start time.Time, d time.Duration) bool {
	return time.Since(start) > d+suspensionTolerance
}

// IsClosed reports whether c, to which nothing is sent, is closed. It does not wait.
func IsClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// IsClosedWithin reports whether c is closed, or receives, within d. It returns as soon as that is known.
func IsClosedWithin(d time.Duration, c <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-timer.C:
		return false
	}
}

// UntilClosed returns true as soon as c is closed, or receives, or false as soon as ctx is done.
func UntilClosed(ctx context.Context, c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	case <-ctx.Done():
		return false
	}
}

// Broadcast wakes all goroutines that wait for a change. The zero Broadcast is ready; it is safe for concurrent use.
type Broadcast struct {
	mu        sync.Mutex    // guards changedCh
	changedCh chan struct{} // nil: Changed was not called since the last change
}

// Changed returns a channel that is closed at the next change. Call it before reading the state, so that no change is missed.
func (b *Broadcast) Changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changedCh == nil {
		b.changedCh = make(chan struct{})
	}
	return b.changedCh
}

// Announce closes the channel that Changed has returned.
func (b *Broadcast) Announce() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changedCh != nil {
		close(b.changedCh)
		b.changedCh = nil
	}
}
