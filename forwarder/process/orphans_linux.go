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

// orphansTimeout bounds killMarked: a process in uninterruptible sleep does not die until its I/O returns.
const orphansTimeout = 5 * time.Second

// killMarked kills every process of this user, except the caller, that has name=value in its environment.
func killMarked(name, value string) (killed int, err error) {
	if value == "" {
		return 0, nil
	}
	for end := time.Now().Add(orphansTimeout); time.Now().Before(end); {
		pids, err := userPIDs()
		if err != nil {
			return killed, err
		}
		found := 0
		for _, pid := range pids {
			if killIfMarked(pid, name, value) {
				found++
			}
		}
		if found == 0 {
			return killed, nil
		}
		killed += found
	}
	return killed, fmt.Errorf("kill the processes with %s=%s: some still run after %v", name, value, orphansTimeout)
}

// userPIDs returns the pids of this user's processes, without this process.
func userPIDs() ([]int, error) {
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

// isPersistentSSHMaster reports whether a process is an ssh master in the background, whose title is "ssh: SOCKET [mux]".
func isPersistentSSHMaster(pid int) bool {
	title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && bytes.HasPrefix(title, []byte("ssh: ")) && bytes.Contains(title, []byte(" [mux]"))
}

// killIfMarked kills a process that has name=value in its environment, and waits up to a second for its end. The pidfd is opened before the
// environment is read: if the pid is reused in between, the signal reaches nobody.
func killIfMarked(pid int, name, value string) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil || !hasEntry(environ, name, value) || isPersistentSSHMaster(pid) {
		return false
	}
	if unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) != nil {
		return false
	}
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 1000)
	return true
}
