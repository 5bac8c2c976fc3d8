package supervisor

import (
	"time"

	"golang.org/x/sys/unix"
)

// slept is how long the machine has slept since it was started: one clock goes on meanwhile, the other does not.
func slept() time.Duration { return clock(unix.CLOCK_BOOTTIME) - clock(unix.CLOCK_MONOTONIC) }

func clock(id int32) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
