package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sweepLimit bounds a sweep: a process that cannot die now, in the middle of a disk's answer, is left to the next.
const sweepLimit = 5 * time.Second

// Sweep kills what the tunnels of a run left behind: every process of this user that was started with
// forwarder.RunVariable=run in its environment, and whatever those start meanwhile. It touches nothing else, not the
// caller, and not the masters that the user's own ssh_config keeps (ControlPersist): they may carry the user's other
// sessions by now. It returns how many it killed.
func Sweep(run string) (killed int, err error) {
	if run == "" {
		return 0, nil
	}
	for end := time.Now().Add(sweepLimit); time.Now().Before(end); {
		pids, err := processes()
		if err != nil {
			return killed, err
		}
		found := 0
		for _, pid := range pids {
			if kill(pid, run) {
				found++
			}
		}
		if found == 0 {
			return killed, nil
		}
		killed += found
	}
	return killed, fmt.Errorf("sweep of run %s: processes are left after %v", run, sweepLimit)
}

// processes are the ids of this user's processes other than this one.
func processes() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if info, err := entry.Info(); err == nil && info.Sys().(*syscall.Stat_t).Uid == uint32(os.Geteuid()) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// kept reports whether a process is an ssh master that stays on its own: ssh then calls itself "ssh: SOCKET [mux]".
func kept(pid int) bool {
	title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && bytes.HasPrefix(title, []byte("ssh: ")) && bytes.Contains(title, []byte(" [mux]"))
}

// kill kills a process that belongs to the run, and waits a second for its end. The pidfd is opened before the
// environment is read: if the id passes to another process in between, the signal finds nobody.
func kill(pid int, run string) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil || !carries(environ, run) || kept(pid) {
		return false
	}
	if unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) != nil {
		return false
	}
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 1000)
	return true
}
