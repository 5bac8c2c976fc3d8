package watch

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestDebouncer_FiresOnceWithinASecond(t *testing.T) {
	for _, c := range []struct {
		events     int // 50 ms apart
		firesAfter time.Duration
	}{{1, 100 * time.Millisecond}, {3, 200 * time.Millisecond}, {100, time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			b, start := newDebouncer(defaultSettings.debounce, defaultSettings.maxDelay), time.Now()
			defer b.stop()
			b.extend()
			next := time.NewTicker(50 * time.Millisecond)
			defer next.Stop()
			for n := 1; ; {
				select {
				case <-b.firedCh():
					if elapsed := time.Since(start); elapsed != c.firesAfter {
						t.Errorf("%d events: fired after %s, want %s", c.events, elapsed, c.firesAfter)
					}
					return
				case <-next.C:
					if n++; n <= c.events {
						b.extend()
					}
				}
			}
		})
	}
}
