package holder

import (
	"net"
	"net/netip"
	"time"
)

// Of is who listens at an address, be it there alone or on all of the machine's addresses.
func Of(addr netip.AddrPort) (Holder, bool) { return lsof(addr) }

// InGroup reports whether anything listens at an address. macOS does not tell cheaply whether it is the group.
func InGroup(_ int, addr netip.AddrPort) bool {
	conn, err := net.DialTimeout("tcp", addr.String(), time.Second)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}
