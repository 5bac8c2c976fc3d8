package daemon

import "syscall"

// sysProcAttr are those of a process in a group of its own, which a terminal's Ctrl-C does not reach.
func sysProcAttr(orphaned syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: orphaned, Credential: serverCredential()}
}
