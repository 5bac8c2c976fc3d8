package process

import "syscall"

// sysProcAttr puts the child into its own process group. macOS has no Pdeathsig.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
