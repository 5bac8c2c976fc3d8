//go:build !linux

package supervisor

import (
	"errors"
	"time"
)

var processStart = time.Now()

// sleepTime is by how much the wall clock is ahead of the monotonic clock, which stops during sleep. Setting the wall clock counts as
// sleep too, which at worst causes one more check.
func sleepTime() time.Duration {
	return time.Now().Round(0).Sub(processStart.Round(0)) - time.Since(processStart)
}

// clockEvents does not exist on this system.
type clockEvents struct{}

func openClockEvents() (*clockEvents, error) { return nil, errors.ErrUnsupported }

func (*clockEvents) read(func()) {}

func (*clockEvents) close() {}
