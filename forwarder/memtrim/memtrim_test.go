package memtrim

import (
	"context"
	"sync"
	"testing"
	"time"
)

var garbage []byte

func TestTrimAtIntervals_ReturnsMemoryThatWasNeededForAWhile(t *testing.T) {
	const size = 64 << 20
	before := runtimeMemory()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { trimAtIntervals(ctx, 10*time.Millisecond, before) })
	garbage = make([]byte, size)
	for i := range garbage {
		garbage[i] = 1
	}
	if grown := runtimeMemory(); grown < before+size/2 {
		t.Fatalf("%d bytes before, %d with %d more", before, grown, size)
	}
	garbage = nil
	tick, limitCh := time.NewTicker(10*time.Millisecond), time.After(10*time.Second)
	defer tick.Stop()
	for runtimeMemory() > before+size/2 {
		select {
		case <-tick.C:
		case <-limitCh:
			t.Fatalf("%d bytes before, %d after 10 s", before, runtimeMemory())
		}
	}
}
