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

// orphansTimeout bounds KillOrphans: a process in uninterruptible sleep does not die until its I/O returns.
const orphansTimeout = 5 * time.Second

// KillOrphans kills what the tunnels of a run left behind: every process of this user, except the caller, that was started with
// forwarder.RunVariable=runID in its environment, and whatever those start meanwhile. It returns how many it killed. It spares
// the ssh masters that the user's own ssh_config keeps alive (ControlPersist): other sessions of the user may depend on them.
func KillOrphans(runID string) (killed int, err error) {
	if runID == "" {
		return 0, nil
	}
	for end := time.Now().Add(orphansTimeout); time.Now().Before(end); {
		pids, err := userPIDs()
		if err != nil {
			return killed, err
		}
		found := 0
		for _, pid := range pids {
			if killIfOrphan(pid, runID) {
				found++
			}
		}
		if found == 0 {
			return killed, nil
		}
		killed += found
	}
	return killed, fmt.Errorf("kill the processes of run %s: some still run after %v", runID, orphansTimeout)
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

// killIfOrphan kills a process that belongs to the run, and waits up to a second for its end. The pidfd is opened before the
// environment is read: if the pid is reused in between, the signal reaches nobody.
func killIfOrphan(pid int, runID string) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil || !hasRunID(environ, runID) || isPersistentSSHMaster(pid) {
		return false
	}
	if unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) != nil {
		return false
	}
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 1000)
	return true
}
