package process

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/lockstate"
)

// killMarked kills every process of this user, except the caller, that has name=value in its environment.
func killMarked(name, value string) (killed int, err error) {
	if value == "" {
		return 0, nil
	}
	all, err := unix.SysctlKinfoProcSlice("kern.proc.uid", os.Geteuid())
	if err != nil {
		return 0, err
	}
	for _, info := range all {
		pid := int(info.Proc.P_pid)
		process, isAlive := lockstate.FindProcess(pid)
		if !isAlive || pid == os.Getpid() || !hasEntry(processStrings(pid), name, value) {
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
