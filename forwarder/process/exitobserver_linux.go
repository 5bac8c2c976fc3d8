package process

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/lockstate"
)

type exitObserver struct {
	process  lockstate.Process
	pidfd    int    // -1: none
	counter  string // path of the file in which the kernel counts the processes of the control group that it killed for lack of memory
	oomKills int    // at the start
}

// ObserveExit observes a process until Close.
func ObserveExit(p lockstate.Process) *ExitObserver {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		fd = -1
	}
	o := &ExitObserver{exitObserver{process: p, pidfd: fd, counter: oomCounterPath(p.PID)}}
	o.oomKills, _ = readOOMKills(o.counter)
	return o
}

// Close releases the observer.
func (o *ExitObserver) Close() {
	if o.pidfd >= 0 {
		_ = unix.Close(o.pidfd)
	}
}

// Reason returns how the process has ended: "killed by SIGKILL", "exit status 2"; empty if it runs, ended with status 0, or if this is
// not known. It is to be called as soon as the end is noticed, by the end of a connection for example: Linux before 6.15 forgets the
// status when the parent has read it.
func (o *ExitObserver) Reason() string {
	code, ok := readExitCode(o.process)
	if !ok {
		code, ok = o.readReapedExitCode()
	}
	status := syscall.WaitStatus(code)
	switch {
	case !ok || code == 0:
		return ""
	case !status.Signaled():
		return fmt.Sprintf("exit status %d", status.ExitStatus())
	case status.Signal() == unix.SIGKILL:
		return "killed by SIGKILL" + o.describeOOMKill()
	}
	return "killed by " + unix.SignalName(status.Signal())
}

// readExitCode reads the exit code, as wait(2) returns it, of a process that has ended or is about to: field 52 of /proc/PID/stat. It is 0
// for a process that runs. False if there is no such process any more.
func readExitCode(p lockstate.Process) (code int, ok bool) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(p.PID) + "/stat")
	if err != nil {
		return 0, false
	}
	const first = 3 // the fields are counted from 1, and the name, which is the second, may contain spaces
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) <= 52-first || string(fields[22-first]) != strconv.FormatUint(p.Start, 10) {
		return 0, false
	}
	code, err = strconv.Atoi(string(fields[52-first]))
	return code, err == nil
}

// pidfdInfo is the first version of struct pidfd_info (linux/pidfd.h).
type pidfdInfo struct {
	mask     uint64
	cgroupID uint64
	ids      [11]uint32
	exitCode int32
}

// Of linux/pidfd.h, since Linux 6.15.
const (
	pidfdGetInfo  = 3<<30 | unsafe.Sizeof(pidfdInfo{})<<16 | 0xff<<8 | 11
	pidfdInfoExit = 1 << 3
)

// readReapedExitCode reads the exit code of a process that its parent has waited for.
func (o *ExitObserver) readReapedExitCode() (code int, ok bool) {
	if o.pidfd < 0 {
		return 0, false
	}
	info := pidfdInfo{mask: pidfdInfoExit}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(o.pidfd), pidfdGetInfo, uintptr(unsafe.Pointer(&info)))
	return int(info.exitCode), errno == 0 && info.mask&pidfdInfoExit != 0
}

// describeOOMKill says, after "killed by SIGKILL", what is known of a lack of memory. The kernel's log names the process, but not every
// user may read it; the counter of the control group does not name it.
func (o *ExitObserver) describeOOMKill() string {
	kills, err := readOOMKills(o.counter)
	count := kills - o.oomKills
	switch {
	case err == nil && count <= 0:
		return ""
	case isInKernelLog(fmt.Appendf(nil, "Killed process %d (", o.process.PID)):
		return ": out of memory"
	case err != nil:
		return ""
	case count == 1:
		return ", probably out of memory: the kernel's OOM killer ended a process of its control group"
	}
	return fmt.Sprintf(", probably out of memory: the kernel's OOM killer ended %d processes of its control group", count)
}

// oomCounterPath returns the path of the file that counts the kills of a process's control group; empty if it is not known.
func oomCounterPath(pid int) string {
	data, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	path := ""
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3) // id, controllers, path (cgroups(7))
		if len(parts) < 3 {
			continue
		}
		for controller := range strings.SplitSeq(parts[1], ",") {
			if controller == "memory" {
				return filepath.Join("/sys/fs/cgroup/memory", parts[2], "memory.oom_control")
			}
		}
		if parts[1] == "" { // version 2
			path = filepath.Join("/sys/fs/cgroup", parts[2], "memory.events")
		}
	}
	return path
}

// readOOMKills returns the number in the line "oom_kill N" of memory.events or, in version 1, memory.oom_control.
func readOOMKills(path string) (int, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if number, ok := strings.CutPrefix(line, "oom_kill "); ok {
			return strconv.Atoi(strings.TrimSpace(number))
		}
	}
	return 0, fmt.Errorf("%s has no line oom_kill", path)
}

// isInKernelLog reports whether a record of the kernel's log contains text. False if the log may not be read.
func isInKernelLog(text []byte) bool {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	for record := make([]byte, 8<<10); ; { // a read returns one record
		n, err := unix.Read(fd, record)
		switch {
		case err == unix.EPIPE || err == unix.EINTR: // overwritten meanwhile
		case err != nil || n <= 0:
			return false
		case bytes.Contains(record[:n], text):
			return true
		}
	}
}
