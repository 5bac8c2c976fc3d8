package holder

import "net/netip"

// Connections returns the connections of this machine's processes to the addresses, ordered by the client's address. It runs lsof.
func Connections(addrs []netip.AddrPort) []Connection { return connectionsWithLsof(addrs) }
