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

func TestManyEventsAreTwoWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		events := make(chan struct{})
		var words atomic.Int32
		done := make(chan struct{})
		go func() {
			defer close(done)
			tell(ctx, events, func() { words.Add(1) }, make(chan error, 1))
		}()
		for range 3 { // a change that goes on
			events <- struct{}{}
			synctest.Wait()
			if n := words.Load(); n != 1 {
				t.Errorf("%d words", n)
			}
			time.Sleep(settled / 2)
		}
		time.Sleep(settled)
		if n := words.Load(); n != 2 {
			t.Errorf("%d words when it is over", n)
		}
		events <- struct{}{} // one that does not
		time.Sleep(time.Hour)
		if n := words.Load(); n != 3 {
			t.Errorf("%d words", n)
		}
		cancel()
		<-done
	})
}

func TestAWatchEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Watch(ctx, func() {}) }()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
