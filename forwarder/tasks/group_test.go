package tasks

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestGroup_CloseCancelsGoroutinesAndWaits(t *testing.T) {
	g := New(t.Context())
	var ended atomic.Int32
	for range 3 {
		g.Go(func(ctx context.Context) {
			<-ctx.Done()
			ended.Add(1)
		})
	}
	g.Close()
	if n := ended.Load(); n != 3 {
		t.Errorf("%d goroutines had ended when Close returned", n)
	}
}

func TestGroup_EndsWithParentContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	g := New(ctx)
	sub := g.Subgroup()
	defer g.Close()
	defer sub.Close()
	cancel()
	<-g.Done()
	<-sub.Done()
	if !g.IsDone() {
		t.Error("the group is not done")
	}
}

func TestGroup_CancelEndsOneGoroutine(t *testing.T) {
	g := New(t.Context())
	defer g.Close()
	firstCh, secondCh := make(chan struct{}), make(chan struct{})
	cancel := g.Go(func(ctx context.Context) { <-ctx.Done(); close(firstCh) })
	g.Go(func(ctx context.Context) { <-ctx.Done(); close(secondCh) })
	cancel()
	<-firstCh
	select {
	case <-secondCh:
		t.Error("the other goroutine was canceled too")
	default:
	}
}

func TestGroup_SubgroupEndsAlone(t *testing.T) {
	g := New(t.Context())
	defer g.Close()
	sub := g.Subgroup()
	sub.Close()
	if !sub.IsDone() || g.IsDone() {
		t.Errorf("subgroup done: %v; group done: %v", sub.IsDone(), g.IsDone())
	}
}

func TestGroup_BoundContextEndsWithGroupAndCause(t *testing.T) {
	g := New(t.Context())
	cause := errors.New("closed")
	ctx, cancel := g.BindContext(t.Context(), cause)
	defer cancel()
	g.Close()
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

func TestGroup_GoAfterCloseGetsCanceledContext(t *testing.T) {
	g := New(t.Context())
	g.Close()
	errCh := make(chan error)
	g.Go(func(ctx context.Context) { errCh <- ctx.Err() })
	if err := <-errCh; err == nil {
		t.Error("its context is not done")
	}
}
