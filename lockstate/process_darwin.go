package lockstate

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// startTime returns the error errEnded if the process has ended.
func startTime(pid int) (uint64, error) {
	info, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	const zombie = 5 // SZOMB in sys/proc.h
	if err != nil || int(info.Proc.P_pid) != pid || info.Proc.P_stat == zombie {
		return 0, errEnded
	}
	t := info.Proc.P_starttime
	return uint64(t.Sec)*1e6 + uint64(t.Usec), nil
}

// IsStopped reports whether the process is alive but stopped, as by SIGSTOP or a debugger.
func (p Process) IsStopped() bool {
	const stopped = 4 // SSTOP in sys/proc.h
	info, err := unix.SysctlKinfoProc("kern.proc.pid", p.PID)
	return err == nil && info.Proc.P_stat == stopped
}

func readBootID() (string, error) {
	t, err := unix.SysctlTimeval("kern.boottime")
	if err != nil {
		return "", nil //nolint:nilerr // as where there is no such id; it needs no descriptor that could be missing
	}
	return fmt.Sprint(t.Sec), nil
}

// WaitExit returns nil when the process has ended, or the context's error. It costs one descriptor and a thread.
func WaitExit(ctx context.Context, p Process) error {
	if table := simulatedTable.Load(); table != nil {
		return (*table).WaitExit(ctx, p)
	}
	kq, err := unix.Kqueue()
	if err != nil {
		return pollExit(ctx, p)
	}
	defer unix.Close(kq)
	event := unix.Kevent_t{
		Ident: uint64(p.PID), Filter: unix.EVFILT_PROC, Flags: unix.EV_ADD | unix.EV_ONESHOT, Fflags: unix.NOTE_EXIT,
	}
	if _, err := unix.Kevent(kq, []unix.Kevent_t{event}, nil, nil); err != nil || !p.IsAlive() {
		return pollExit(ctx, p)
	}
	for ctx.Err() == nil {
		// The timeout is for the context: closing a kqueue does not wake its waiter.
		got := make([]unix.Kevent_t, 1)
		n, err := unix.Kevent(kq, nil, got, &unix.Timespec{Sec: 1})
		if n > 0 || err != nil && err != unix.EINTR {
			return pollExit(ctx, p)
		}
	}
	return ctx.Err()
}

// OpenPIDFD returns an error: macOS has no pidfds, and no PID namespaces.
func OpenPIDFD(Process) (*os.File, error) { return nil, errors.ErrUnsupported }

// WaitPIDFD returns an error, as OpenPIDFD does.
func WaitPIDFD(context.Context, *os.File) error { return errors.ErrUnsupported }
