package convert

import "fmt"

// LocalPorts chooses the local ports of services: the port that clients expect, or "auto" where that cannot be had.
type LocalPorts struct {
	IsTaken func(port int) bool // by another program of this machine; nil: nothing is taken
	users   map[int]string
}

// minUnprivilegedPort is the first port on which every user may listen.
const minUnprivilegedPort = 1024

// Choose returns the entry local_port of a service for which port is the usual one. A comment says why it is "auto".
func (p *LocalPorts) Choose(port int, service string) (value any, comment string) {
	switch user := p.users[port]; {
	case port < 1 || port > 65535:
		return "auto", ""
	case port < minUnprivilegedPort:
		return "auto", fmt.Sprintf("%d is below %d, where only root may listen", port, minUnprivilegedPort)
	case user != "":
		return "auto", fmt.Sprintf("%d is the port of %s", port, user)
	case p.IsTaken != nil && p.IsTaken(port):
		return "auto", fmt.Sprintf("another program of this machine listens on %d", port)
	}
	if p.users == nil {
		p.users = make(map[int]string)
	}
	p.users[port] = service
	return port, ""
}
