package probe

import "net/netip"

// LocalAddress is implemented by a Dialer whose service listens on this machine: a server that advertises an address to its clients
// should advertise this one.
type LocalAddress interface{ LocalAddr() netip.AddrPort }
