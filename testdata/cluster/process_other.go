//go:build !linux

package cluster

import "syscall"

// attributes: CheckAvailable keeps everybody from coming here.
func attributes() *syscall.SysProcAttr { return nil }
