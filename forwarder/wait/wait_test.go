package wait_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/forwarder/wait"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNotify_CoalescesSignals(t *testing.T) {
	c := make(chan struct{}, 1)
	for range 3 {
		wait.Notify(c)
	}
	if len(c) != 1 {
		t.Errorf("%d signals", len(c))
	}
}

func TestReplace_KeepsNewestValue(t *testing.T) {
	c := make(chan int, 1)
	for i := range 3 {
		wait.Replace(c, i)
	}
	if got := <-c; got != 2 || len(c) != 0 {
		t.Errorf("got %d, %d more", got, len(c))
	}
}

func TestSleep_EndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if !wait.Sleep(t.Context(), time.Second) || time.Since(start) != time.Second {
			t.Errorf("slept %v", time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if wait.Sleep(ctx, time.Hour) || time.Since(start) != 2*time.Second {
			t.Errorf("slept %v past the end of the context", time.Since(start))
		}
	})
}

func TestIsClosed_DoesNotWait(t *testing.T) {
	c := make(chan struct{})
	if wait.IsClosed(c) {
		t.Error("an open channel is closed")
	}
	close(c)
	if !wait.IsClosed(c) {
		t.Error("a closed channel is open")
	}
}

func TestBroadcast_WakesAllWaitersAtEachChange(t *testing.T) {
	var b wait.Broadcast
	b.Announce() // nobody waits
	value, changed := 0, b.Changed()
	select {
	case <-changed:
		t.Fatal("woken by an earlier change")
	default:
	}
	var mu sync.Mutex
	var waiting sync.WaitGroup
	for range 10 {
		waiting.Go(func() {
			for {
				changed := b.Changed()
				mu.Lock()
				now := value
				mu.Unlock()
				if now == 100 {
					return
				}
				<-changed
			}
		})
	}
	for range 100 {
		mu.Lock()
		value++
		mu.Unlock()
		b.Announce()
	}
	waiting.Wait()
	<-changed
}

func TestWasSuspended_ToleratesABusyMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		time.Sleep(3 * time.Second) // the fake clock's
		if wait.WasSuspended(start, 3*time.Second) || wait.WasSuspended(start, 2500*time.Millisecond) {
			t.Error("a timer that fires in time, or half a second late, counts as a suspension")
		}
		if !wait.WasSuspended(start, time.Second) {
			t.Error("a timer that fires two seconds late does not")
		}
	})
}
