package cluster

import "syscall"

// attributes are those of a process that dies with ours, in a group of its own, which a terminal's Ctrl-C does not reach.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
