package netmon

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNotifyDebounced_CallsAtStartAndEndOfChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		events := make(chan struct{})
		var calls atomic.Int32
		done := make(chan struct{})
		go func() {
			defer close(done)
			notifyDebounced(ctx, events, func() { calls.Add(1) }, make(chan error, 1))
		}()
		for range 3 { // a change of several events
			events <- struct{}{}
			synctest.Wait()
			if n := calls.Load(); n != 1 {
				t.Errorf("%d calls", n)
			}
			time.Sleep(debounceInterval / 2)
		}
		time.Sleep(debounceInterval)
		if n := calls.Load(); n != 2 {
			t.Errorf("%d calls when the change is over", n)
		}
		events <- struct{}{} // a change of one event
		time.Sleep(time.Hour)
		if n := calls.Load(); n != 3 {
			t.Errorf("%d calls", n)
		}
		cancel()
		<-done
	})
}

func TestWatch_EndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Watch(ctx, func() {}) }()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
