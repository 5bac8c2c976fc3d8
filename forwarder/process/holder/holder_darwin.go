package holder

import (
	"net"
	"net/netip"
	"time"
)

// Find returns the process that listens on addr, or on all addresses with addr's port.
func Find(addr netip.AddrPort) (Holder, bool) { return findWithLsof(addr) }

// GroupListensOn reports whether anything listens on addr. macOS has no cheap way to tell whether it is the group.
func GroupListensOn(_ int, addr netip.AddrPort) bool {
	conn, err := net.DialTimeout("tcp", addr.String(), time.Second)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}
