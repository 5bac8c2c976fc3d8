// Package tasks runs goroutines that outlive the call that starts them, and cancels and awaits them together.
package tasks

import (
	"context"
	"sync"

	"github.com/localport-sh/localport/forwarder/wait"
)

// Group is a set of goroutines that are canceled and awaited together. Each is given a context derived from the group's,
// which is derived from the one given to New, so that no struct keeps a context for them. It is safe for concurrent use.
type Group struct {
	done       <-chan struct{}
	cancel     context.CancelFunc
	newContext func() (context.Context, context.CancelFunc)
	afterDone  func(f func()) (stop func() bool)

	mu       sync.Mutex
	idleCond sync.Cond // of mu; running has become 0
	running  int
}

// New makes a group, which is done when ctx is, or after Cancel or Close.
func New(ctx context.Context) *Group {
	ctx, cancel := context.WithCancel(ctx)
	g := &Group{
		done: ctx.Done(), cancel: cancel,
		newContext: func() (context.Context, context.CancelFunc) { return context.WithCancel(ctx) },
		afterDone:  func(f func()) func() bool { return context.AfterFunc(ctx, f) },
	}
	g.idleCond.L = &g.mu
	return g
}

// Subgroup makes a group that is done when this one is. Close of this one does not wait for the subgroup's goroutines: the
// caller closes the subgroup.
func (g *Group) Subgroup() *Group {
	ctx, cancel := g.newContext()
	sub := New(ctx)
	sub.cancel = cancel
	return sub
}

// Go runs f in a goroutine. The context of f is done when f returns, when cancel is called, or when the group is done. If the
// group is done already, f runs too, with a context that is done.
func (g *Group) Go(f func(ctx context.Context)) (cancel context.CancelFunc) {
	ctx, cancel := g.newContext()
	g.mu.Lock()
	g.running++
	g.mu.Unlock()
	go func() {
		defer g.finish()
		defer cancel()
		f(ctx)
	}()
	return cancel
}

func (g *Group) finish() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running--; g.running == 0 {
		g.idleCond.Broadcast()
	}
}

// NewContext derives a context from the group's. The caller cancels it.
func (g *Group) NewContext() (context.Context, context.CancelFunc) { return g.newContext() }

// BindContext derives a context from ctx that is also canceled, with this cause, when the group is done.
func (g *Group) BindContext(ctx context.Context, cause error) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := g.afterDone(func() { cancel(cause) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// Done returns a channel that is closed when the group is done. Its goroutines may still run.
func (g *Group) Done() <-chan struct{} { return g.done }

// IsDone reports whether Done is closed.
func (g *Group) IsDone() bool { return wait.IsClosed(g.done) }

// Cancel cancels the group's contexts, and does not wait.
func (g *Group) Cancel() { g.cancel() }

// Close cancels the group's contexts and waits for its goroutines.
func (g *Group) Close() {
	g.cancel()
	g.Wait()
}

// Wait returns when no goroutine of the group is running.
func (g *Group) Wait() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.running > 0 {
		g.idleCond.Wait()
	}
}
