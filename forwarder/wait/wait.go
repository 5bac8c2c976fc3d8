// Package wait holds the few ways in which goroutines wait for each other here that the standard library does not have.
package wait

import (
	"context"
	"sync"
	"time"
)

// Notify puts a signal into a channel of one element, unless one is in it already: it stands for any number. It never waits.
func Notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Replace puts a value into a channel of one element, in the place of one that nobody has taken. It never waits.
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

// Sleep returns true after d, and false if ctx ends before.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// Broadcast wakes everybody who waits for a change. The zero Broadcast is ready, and safe for concurrent use.
type Broadcast struct {
	mu   sync.Mutex // guards next
	next chan struct{}
}

// Changed returns a channel that is closed at the next change. Get it before looking at what may change, so that none is missed.
func (b *Broadcast) Changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = make(chan struct{})
	}
	return b.next
}

// Announce wakes everybody who waits now.
func (b *Broadcast) Announce() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}
