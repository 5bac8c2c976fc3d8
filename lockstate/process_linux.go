package lockstate

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// startTime reads the start time from /proc/PID/stat. The error is errEnded if the process has ended; after any other error this is not
// known.
func startTime(pid int) (uint64, error) {
	for range maxStatReads {
		start, err := readStartTime(pid)
		if !errors.Is(err, errReleased) {
			return start, err
		}
	}
	return 0, errEnded
}

// maxStatReads is how often /proc/PID/stat is read. One read more tells the two cases of errReleased apart: before the kernel releases the
// first thread in an execve, it gives the PID to the thread that called it. The others are for processes that execute again and again.
const maxStatReads = 5

// errReleased means that the text describes a first thread that the kernel was releasing: the process has ended and is being reaped, or
// another thread of it called execve.
var errReleased = errors.New("the first thread is being released")

func readStartTime(pid int) (uint64, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) || errors.Is(err, fs.ErrPermission) {
		return 0, errEnded
	}
	if err != nil {
		return 0, err
	}
	return parseStartTime(data)
}

// parseStartTime returns field 22 of the text of /proc/PID/stat (proc_pid_stat(5)). The second field is a name in parentheses that may
// hold anything, so fields are counted after the last parenthesis. The error is errEnded if the process is a zombie, or errReleased.
func parseStartTime(stat []byte) (uint64, error) {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return 0, errEnded
	}
	// A zombie has ended, unless it has other threads: a thread that calls execve ends the first thread before it replaces it. The number
	// is 0 while the kernel releases the zombie, because it reads the two fields one after the other.
	threads, err := strconv.Atoi(string(fields[17])) // field 20
	if err != nil {
		return 0, err
	}
	switch state := fields[0][0]; {
	case state == 'X', state == 'Z' && threads == 0:
		return 0, errReleased
	case state == 'Z' && threads == 1:
		return 0, errEnded
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}

// IsStopped reports whether the process is alive but stopped, as by SIGSTOP or a debugger (field 3 of /proc/PID/stat).
func (p Process) IsStopped() bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(p.PID) + "/stat")
	if err != nil {
		return false
	}
	rest := bytes.TrimLeft(data[bytes.LastIndexByte(data, ')')+1:], " ")
	return len(rest) > 0 && (rest[0] == 'T' || rest[0] == 't')
}

// readBootID returns "" if the system has no such id.
func readBootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if isAbsent(err) {
		return "", nil
	}
	return strings.TrimSpace(string(data)), err
}

// WaitExit returns nil when the process has ended, or the context's error. It costs one descriptor and no thread.
func WaitExit(ctx context.Context, p Process) error {
	if table := simulatedTable.Load(); table != nil {
		return (*table).WaitExit(ctx, p)
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return pollExit(ctx, p)
	}
	// Non-blocking, so that the runtime's poller accepts it: a pidfd is readable when its process has ended.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return pollExit(ctx, p)
	}
	file := os.NewFile(uintptr(fd), "pidfd")
	defer file.Close()
	if !p.IsAlive() { // at the time of PidfdOpen, the pid may already have belonged to another process
		return nil
	}
	_ = WaitPIDFD(ctx, file)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return pollExit(ctx, p) // the process has ended, unless waiting failed or there is no descriptor left to read /proc
}

// OpenPIDFD opens a pidfd of a process that is alive, for WaitPIDFD in any PID namespace.
func OpenPIDFD(p Process) (*os.File, error) {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	// Non-blocking, so that the runtime's poller accepts it: a pidfd is readable when its process has ended.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "pidfd")
	if !p.IsAlive() { // the pid may have belonged to another process already
		file.Close()
		return nil, errEnded
	}
	return file, nil
}

// WaitPIDFD returns nil when the process of a pidfd has ended, or the context's error, or that the file cannot be waited for.
func WaitPIDFD(ctx context.Context, pidfd *os.File) error {
	raw, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = pidfd.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err = raw.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, _ := unix.Poll(fds, 0)
		return n > 0
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
