package supervisor

import (
	"time"

	"golang.org/x/sys/unix"
)

// sleepTime is how long the machine has slept since boot: CLOCK_BOOTTIME counts sleep, CLOCK_MONOTONIC does not.
func sleepTime() time.Duration {
	return readClock(unix.CLOCK_BOOTTIME) - readClock(unix.CLOCK_MONOTONIC)
}

func readClock(id int32) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
