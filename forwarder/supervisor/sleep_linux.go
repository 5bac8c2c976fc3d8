package supervisor

import (
	"errors"
	"os"
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

// clockEvents is a timer that the kernel cancels when the system's clock is set, as it is when the machine has slept (TFD_TIMER_CANCEL_ON_SET in
// timerfd_create(2)).
type clockEvents struct{ file *os.File }

// clockTimerEnd is when the timer would expire: never. The largest time that the kernel knows is in the year 2262.
const clockTimerEnd = 1 << 33

func openClockEvents() (*clockEvents, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	e := &clockEvents{os.NewFile(uintptr(fd), "timerfd")}
	if err := e.set(clockTimerEnd); err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

// set sets the time of expiry, in seconds since 1970.
func (e *clockEvents) set(end int64) error {
	raw, err := e.file.SyscallConn()
	if err != nil {
		return err
	}
	var setErr error
	err = raw.Control(func(fd uintptr) {
		value := unix.ItimerSpec{Value: unix.NsecToTimespec(end * int64(time.Second))}
		setErr = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &value, nil)
	})
	return errors.Join(err, os.NewSyscallError("timerfd_settime", setErr))
}

// read calls onSet each time the clock was set, until close.
func (e *clockEvents) read(onSet func()) {
	buf := make([]byte, 8)
	for {
		if _, err := e.file.Read(buf); err != nil && !errors.Is(err, unix.ECANCELED) {
			return
		}
		onSet()
	}
}

func (e *clockEvents) close() { e.file.Close() }
