// Package ssh makes tunnels of the user's own ssh, with the user's configuration, agent, known hosts and jump hosts. All
// tunnels to one destination share one ssh, a master, and each client's connection is a channel of its own: the far side
// says of each whether it could connect.
package ssh

import (
	"context"
	"net"
	"strconv"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
)

// Kind is the technology "ssh".
var Kind = forwarder.Kind{TechnologyType: project.TechnologyType{Name: project.SSH}, New: New}

// New makes the technology of one service.
func New(svc project.Service) forwarder.Technology {
	t := &technology{name: svc.Name, to: svc.Connection, port: svc.RemotePort}
	if t.to.RemoteHost == "" {
		t.to.RemoteHost = "localhost" // as the ssh host itself understands it
	}
	if svc.Connection.Reverse {
		t.local = svc.Addr()
	}
	return t
}

type technology struct {
	name  string
	to    project.Connection
	port  string
	local string // where a reverse forward leads
}

// Target is the login and the far end as seen from there.
func (t *technology) Target() string {
	host := t.to.Host
	if t.to.Port != 0 {
		host = net.JoinHostPort(host, strconv.Itoa(t.to.Port))
	}
	if t.to.User != "" {
		host = t.to.User + "@" + host
	}
	far := net.JoinHostPort(t.to.RemoteHost, t.port)
	switch {
	case t.to.SOCKS:
		return "ssh " + host + " → anywhere (SOCKS)"
	case t.to.Reverse:
		return "ssh " + host + " listens on " + far + " → " + t.local
	}
	return "ssh " + host + " → " + far
}

// Open has the destination's master started, unless it runs, and returns when it has logged in.
func (t *technology) Open(ctx context.Context, run forwarder.Run) (forwarder.Tunnel, error) {
	d := destinationOf(t, run)
	m, err := d.join(ctx, run)
	if err != nil {
		return nil, err
	}
	leave := func() { d.leave(m, run.Log) }
	switch {
	case t.to.SOCKS:
		return newSOCKS(m, leave), nil
	case t.to.Reverse:
		return openReverse(ctx, t, m, leave)
	}
	return newDirect(t, m, leave), nil
}
