//go:build !linux

package supervisor

import "time"

var began = time.Now()

// sleepTime is by how much the time of day has run ahead of the clock that stands still while the machine sleeps. A time of
// day that is set by hand counts as sleep too: at worst something is tried once more.
func sleepTime() time.Duration { return time.Now().Round(0).Sub(began.Round(0)) - time.Since(began) }
