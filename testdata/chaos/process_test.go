package chaos

import (
	"fmt"
	"testing"
)

func TestParseStat_TellsExecveFromDeath(t *testing.T) {
	for _, tt := range []struct {
		state                 string
		threads               int
		isRunning, isReleased bool
	}{
		{"S", 3, true, false},
		{"T", 1, true, false},
		{"Z", 1, false, false},
		{"Z", 2, true, false},
		{"Z", 0, false, true},
		{"X", 0, true, true},
		{"X", 1, true, true},
	} {
		stat := fmt.Sprintf("42 (a (b) c) %s 7 42 42 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 %d 0 1234 0 0", tt.state, tt.threads)
		p, isRunning, isReleased := parseStat([]byte(stat))
		if isReleased != tt.isReleased || !isReleased && (isRunning != tt.isRunning || p.parent != 7 || p.state != tt.state[0]) {
			t.Errorf("%s with %d threads: %+v, running %v, released %v", tt.state, tt.threads, p, isRunning, isReleased)
		}
	}
}
