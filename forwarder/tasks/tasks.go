// Package tasks runs goroutines that outlive the call which starts them, and ends them together.
package tasks

import (
	"context"
	"sync"
)

// Group is goroutines with a common end. Each is given a context that derives from the group's, which derives from the one
// given to New: no struct has to keep a context for them. Its methods may be called concurrently.
type Group struct {
	done   <-chan struct{}
	cancel context.CancelFunc
	derive func() (context.Context, context.CancelFunc)
	after  func(f func()) (stop func() bool)

	mu      sync.Mutex
	idle    sync.Cond // mu; signalled when running becomes 0
	running int
}

// New makes a group, which ends with ctx or by Close.
func New(ctx context.Context) *Group {
	ctx, cancel := context.WithCancel(ctx)
	g := &Group{
		done: ctx.Done(), cancel: cancel,
		derive: func() (context.Context, context.CancelFunc) { return context.WithCancel(ctx) },
		after:  func(f func()) func() bool { return context.AfterFunc(ctx, f) },
	}
	g.idle.L = &g.mu
	return g
}

// Subgroup makes a group that ends with this one. Close of this one does not wait for its goroutines: whoever makes it
// closes it.
func (g *Group) Subgroup() *Group {
	ctx, cancel := g.derive()
	sub := New(ctx)
	sub.cancel = cancel
	return sub
}

// Go runs f in a goroutine. The context that f is given ends when f returns, when cancel is called, or with the group. In a group
// that has ended, f runs too: it is to see that its context has ended.
func (g *Group) Go(f func(ctx context.Context)) (cancel context.CancelFunc) {
	ctx, cancel := g.derive()
	g.mu.Lock()
	g.running++
	g.mu.Unlock()
	go func() {
		defer g.leave()
		defer cancel()
		f(ctx)
	}()
	return cancel
}

func (g *Group) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running--; g.running == 0 {
		g.idle.Broadcast()
	}
}

// Context derives a context from the group's, for a call that is given none. The caller cancels it.
func (g *Group) Context() (context.Context, context.CancelFunc) { return g.derive() }

// Bind derives a context from ctx that ends with the group too, and then with this cause.
func (g *Group) Bind(ctx context.Context, cause error) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := g.after(func() { cancel(cause) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// Done is closed when the group has been told to end.
func (g *Group) Done() <-chan struct{} { return g.done }

// Ended reports whether the group has been told to end.
func (g *Group) Ended() bool {
	select {
	case <-g.done:
		return true
	default:
		return false
	}
}

// Stop tells the group to end, and does not wait.
func (g *Group) Stop() { g.cancel() }

// Close tells the group to end, and returns when no goroutine of it runs.
func (g *Group) Close() {
	g.cancel()
	g.Wait()
}

// Wait returns when no goroutine of the group runs.
func (g *Group) Wait() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.running > 0 {
		g.idle.Wait()
	}
}
