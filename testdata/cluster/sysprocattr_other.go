//go:build !linux

package cluster

import "syscall"

// sysProcAttr is never called: CheckAvailable fails on systems other than Linux.
func sysProcAttr() *syscall.SysProcAttr { return nil }
