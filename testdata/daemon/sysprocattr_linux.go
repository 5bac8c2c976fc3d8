package daemon

import "syscall"

// sysProcAttr starts a process in a new process group, which a terminal's Ctrl-C does not reach, and has the kernel send it orphanSignal
// when the thread that started it ends.
func sysProcAttr(orphanSignal syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: orphanSignal, Credential: serverCredential()}
}
