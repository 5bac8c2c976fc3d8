package tasks

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestGroup_CloseEndsItsGoroutinesAndWaitsForThem(t *testing.T) {
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

func TestGroup_EndsWithTheContextItWasMadeOf(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	g := New(ctx)
	sub := g.Subgroup()
	defer g.Close()
	defer sub.Close()
	cancel()
	<-g.Done()
	<-sub.Done()
	if !g.Ended() {
		t.Error("it has not ended")
	}
}

func TestGroup_CancelEndsOneGoroutineAlone(t *testing.T) {
	g := New(t.Context())
	defer g.Close()
	one, other := make(chan struct{}), make(chan struct{})
	cancel := g.Go(func(ctx context.Context) { <-ctx.Done(); close(one) })
	g.Go(func(ctx context.Context) { <-ctx.Done(); close(other) })
	cancel()
	<-one
	select {
	case <-other:
		t.Error("the other has ended")
	default:
	}
}

func TestGroup_ASubgroupEndsAlone(t *testing.T) {
	g := New(t.Context())
	defer g.Close()
	sub := g.Subgroup()
	sub.Close()
	if !sub.Ended() || g.Ended() {
		t.Errorf("the subgroup has ended: %v; the group: %v", sub.Ended(), g.Ended())
	}
}

func TestGroup_ABoundContextEndsWithTheGroupAndSaysWhy(t *testing.T) {
	g := New(t.Context())
	why := errors.New("closed")
	ctx, cancel := g.Bind(t.Context(), why)
	defer cancel()
	g.Close()
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

func TestGroup_AGoroutineStartedAfterTheEndSeesIt(t *testing.T) {
	g := New(t.Context())
	g.Close()
	seen := make(chan error)
	g.Go(func(ctx context.Context) { seen <- ctx.Err() })
	if err := <-seen; err == nil {
		t.Error("its context has not ended")
	}
}
