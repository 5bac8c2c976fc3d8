package wait_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/localport-sh/localport/forwarder/wait"
)

func TestDeadline_EndsWaitsAtTheTimeSetLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		cond := sync.NewCond(&mu)
		var deadline wait.Deadline
		mu.Lock()
		defer mu.Unlock()
		if deadline.HasPassed() {
			t.Error("the zero deadline has passed")
		}
		start := time.Now()
		deadline.Set(start.Add(time.Second), cond)
		deadline.Set(start.Add(time.Minute), cond)
		for !deadline.HasPassed() {
			cond.Wait()
		}
		if took := time.Since(start); took != time.Minute {
			t.Errorf("the wait took %v", took)
		}
		deadline.Set(time.Time{}, cond)
		if deadline.HasPassed() {
			t.Error("a deadline that was removed has passed")
		}
		deadline.Stop()
	})
}
