package probe

import "net/netip"

// LocalAddress is implemented by a Path whose service listens on this machine: a server that tells its clients where to connect
// is right if it tells them this address.
type LocalAddress interface{ LocalAddr() netip.AddrPort }
