package daemon

import "syscall"

// attributes are those of a process in a group of its own, which a terminal's Ctrl-C does not reach.
func attributes(syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: credential()}
}
