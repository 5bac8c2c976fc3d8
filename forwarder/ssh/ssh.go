// Package ssh makes tunnels of the user's own ssh, with the user's configuration, agent, known hosts and jump hosts. All
// tunnels to one destination share one ssh, a master, and each client's connection is a channel of its own: the far side
// says of each whether it could connect.
package ssh

import (
	"context"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/tasks"
	"github.com/localport-sh/localport/project"
)

// Technology is "ssh".
var Technology = forwarder.Technology{
	TechnologyType: project.TechnologyType{Name: "ssh", HasRemotePort: true, RemotePortAlternative: "socks", Keys: keys, Finish: finish},
	New:            New,
	Login:          login,
}

// New makes a driver.
func New(ctx context.Context, _ forwarder.Host) forwarder.Driver { return newDriver(ctx) }

func newDriver(ctx context.Context) *driver {
	return &driver{tasks: tasks.New(ctx), destinations: make(map[string]*destination)}
}

// driver is what a supervisor's tunnels share: the destinations that they lead to.
type driver struct {
	tasks *tasks.Group

	mu           sync.Mutex
	destinations map[string]*destination // by the command lines of their masters; they stay, for what is remembered of their failures
}

// login is the same for all services whose ssh has the same command line. Their ssh asks the questions.
func login(svc project.Service, _ string, _ []string) forwarder.Login {
	return forwarder.Login{Key: strings.Join(specOf(svc).argv(), "\x00"), Name: connectionOf(svc).host, Asks: true}
}

// spec is what a service says of its tunnel.
type spec struct {
	name  string
	to    connection
	port  string
	local string // where a reverse forward leads
}

func specOf(svc project.Service) *spec {
	s := &spec{name: svc.Name, to: connectionOf(svc), port: svc.RemotePort}
	if s.to.reverse {
		s.local = svc.Addr()
	}
	return s
}

// Target is the login and the far end as seen from there.
func (*driver) Target(svc project.Service) string {
	t := specOf(svc)
	host := t.to.host
	if t.to.port != 0 {
		host = net.JoinHostPort(host, strconv.Itoa(t.to.port))
	}
	if t.to.user != "" {
		host = t.to.user + "@" + host
	}
	far := net.JoinHostPort(t.to.remoteHost, t.port)
	switch {
	case t.to.socks:
		return "ssh " + host + " → anywhere (SOCKS)"
	case t.to.reverse:
		return "ssh " + host + " listens on " + far + " → " + t.local
	}
	return "ssh " + host + " → " + far
}

// Open has the destination's master started, unless it runs, and returns when it has logged in.
func (d *driver) Open(ctx context.Context, svc project.Service, run forwarder.Run) (forwarder.Tunnel, error) {
	s := specOf(svc)
	to := d.destination(s, run)
	m, err := to.join(ctx, run)
	if err != nil {
		return nil, err
	}
	leave := func() { to.leave(m, run.Log) }
	switch {
	case s.to.socks:
		return newSOCKS(m, leave), nil
	case s.to.reverse:
		return openReverse(ctx, s, m, leave)
	}
	return newDirect(s, m, leave), nil
}

// Close returns when nothing of any ssh is left.
func (d *driver) Close() error {
	d.tasks.Close()
	return nil
}
