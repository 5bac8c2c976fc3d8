package process

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/lockstate"
)

// KillOrphans kills what a dead supervisor left behind: every process of this user, except the caller, that was started with
// forwarder.RunVariable=runID in its environment. It returns how many it killed. macOS hides the environment of the programs
// that come with the system, its own ssh among them, so those are not found.
func KillOrphans(runID string) (killed int, err error) {
	if runID == "" {
		return 0, nil
	}
	all, err := unix.SysctlKinfoProcSlice("kern.proc.uid", os.Geteuid())
	if err != nil {
		return 0, err
	}
	for _, info := range all {
		pid := int(info.Proc.P_pid)
		process, isAlive := lockstate.FindProcess(pid)
		if !isAlive || pid == os.Getpid() || !hasRunID(processStrings(pid), runID) {
			continue
		}
		if process.IsAlive() && syscall.Kill(pid, syscall.SIGKILL) == nil {
			killed++
		}
	}
	return killed, nil
}

// processStrings returns a process's argc, path, arguments and environment, as NUL-terminated strings; nil if we may not read
// them.
func processStrings(pid int) []byte {
	list, _ := unix.SysctlRaw("kern.procargs2", pid)
	return list
}
