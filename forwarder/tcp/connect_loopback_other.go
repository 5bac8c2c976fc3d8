//go:build !linux

package tcp

import (
	"net/netip"
	"syscall"
)

// connectLoopback does nothing: elsewhere a second connect of a socket that has connected is an error.
func connectLoopback(syscall.RawConn, netip.AddrPort) error { return nil }
