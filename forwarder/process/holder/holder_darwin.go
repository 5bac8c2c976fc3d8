package holder

import (
	"net"
	"net/netip"
	"slices"
	"time"
)

// Find returns the process that listens on addr, or on all addresses with addr's port.
func Find(addr netip.AddrPort) (Holder, bool) { return findWithLsof(addr) }

// FindAmong is Find for a few processes.
func FindAmong(addr netip.AddrPort, pids []int) (pid int, ok bool) {
	found, ok := findWithLsof(addr)
	if !ok || !slices.Contains(pids, found.PID) {
		return 0, false
	}
	return found.PID, true
}

// CanFindClients reports whether FindClients finds any.
const CanFindClients = false

// FindClients finds none: macOS has no cheap way to list the connections of all processes.
func FindClients([]netip.AddrPort, func(pid int) bool) []Holder { return nil }

// Environ returns an empty text, because FindClients finds no process.
func Environ(int) string { return "" }

// GroupListensOn reports whether anything listens on addr. macOS has no cheap way to tell whether it is the group.
func GroupListensOn(_ int, addr netip.AddrPort) bool {
	conn, err := net.DialTimeout("tcp", addr.String(), time.Second)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}
