package process

import "syscall"

// sysProcAttr puts the child into its own process group and has it killed when this process dies.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
