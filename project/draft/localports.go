package draft

import (
	"fmt"
	"slices"

	"github.com/localport-sh/localport/project"
)

// LocalPorts chooses the local ports of services: the port that clients expect, or another where that cannot be had.
type LocalPorts struct {
	// Holder returns what has a port on an address already, such as "another program of this machine"; empty: nothing. nil: no other program has one.
	Holder func(address string, port int) string
	// Privileged says that the ports below 1024 can be used.
	Privileged bool
	// Substitute returns the port to use instead of one that cannot be had; 0: none. nil: none for any port.
	Substitute func(port int) int

	chosen []listener
}

// listener is where a service listens. Without an address, that is 127.0.0.1 and ::1.
type listener struct {
	address string
	port    int
	service string
}

func (l listener) conflicts(address string, port int) bool {
	isOfDefault := func(address string) bool { return address == "127.0.0.1" || address == "::1" } // without local_address, both
	return l.port == port && (l.address == address || l.address == "" && isOfDefault(address) || isOfDefault(l.address) && address == "")
}

// Auto is the local port that LocalPort chooses by itself: the config has "auto".
const Auto = 0

// Add records that a service has a port.
func (p *LocalPorts) Add(service, address string, port int) {
	p.chosen = append(p.chosen, listener{address, port, service})
}

// Choose returns the local port of a service for which port is the usual one, at a local_address that may be empty. reason says why it is
// another one.
func (p *LocalPorts) Choose(service, address string, port int) (chosen int, reason string) {
	if port < 1 || port > 65535 {
		return Auto, ""
	}
	chosen = port
	if reason = p.problem(address, port); reason != "" {
		chosen = Auto
		if p.Substitute != nil {
			chosen = p.Substitute(port)
		}
		if chosen == Auto || p.holder(address, chosen) != "" {
			return Auto, reason
		}
	}
	p.Add(service, address, chosen)
	return chosen, reason
}

// problem returns why a port cannot be had; empty if it can.
func (p *LocalPorts) problem(address string, port int) string {
	if port < project.FirstUnprivilegedPort && !p.Privileged {
		return fmt.Sprintf("only root may open ports below %d", project.FirstUnprivilegedPort)
	}
	if holder := p.holder(address, port); holder != "" {
		return fmt.Sprintf("%s has port %d", holder, port)
	}
	return ""
}

func (p *LocalPorts) holder(address string, port int) string {
	if at := slices.IndexFunc(p.chosen, func(l listener) bool { return l.conflicts(address, port) }); at >= 0 {
		return fmt.Sprintf("service %q", p.chosen[at].service)
	}
	if p.Holder != nil {
		return p.Holder(address, port)
	}
	return ""
}

// LocalPortValue returns the value of local_port for a port that Choose has returned.
func LocalPortValue(port int) any {
	if port == Auto {
		return "auto"
	}
	return port
}
