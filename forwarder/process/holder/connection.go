package holder

import "net/netip"

// Connection is a client's connection to one of our listeners.
type Connection struct {
	Client netip.AddrPort // the client's address
	Server netip.AddrPort // that of the listener
	// Holder is the client's process. If several share the socket it is the one that the others inherited it from. Its PID is 0 if the system
	// does not show the process.
	Holder Holder
}
