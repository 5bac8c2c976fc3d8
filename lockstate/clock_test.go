package lockstate

import (
	"testing"
	"time"
)

// Times that another process has written are compared with the system's clock, which can be set.
func TestState_ClockThatIsSetBackExtendsNothing(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		until time.Time
		want  bool
	}{
		"none":                 {time.Time{}, false},
		"is running":           {now.Add(takeoverTime / 2), true},
		"is over":              {now.Add(-time.Second), false},
		"clock set back a day": {now.Add(24 * time.Hour), false},
	} {
		if got := (State{TakeoverUntil: c.until}).IsTakeoverAwaited(); got != c.want {
			t.Errorf("takeover, %s: %v", name, got)
		}
	}
}
