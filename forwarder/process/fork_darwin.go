package process

import "syscall"

// attributes give the child a group of its own. macOS cannot tie its life to ours.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
