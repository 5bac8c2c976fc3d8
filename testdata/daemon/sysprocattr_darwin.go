package daemon

import "syscall"

// sysProcAttr starts a process in a new process group, which a terminal's Ctrl-C does not reach. macOS has no parent-death signal.
func sysProcAttr(syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: serverCredential()}
}
