package cluster

import "syscall"

// sysProcAttr starts a process in a new process group, which a terminal's Ctrl-C does not reach, and has the kernel kill it when the thread
// that started it ends.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
