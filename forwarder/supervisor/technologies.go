package supervisor

import (
	"fmt"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/command"
	"github.com/localport-sh/localport/forwarder/kubectl"
	"github.com/localport-sh/localport/forwarder/ssh"
	"github.com/localport-sh/localport/forwarder/tcp"
	"github.com/localport-sh/localport/project"
)

// technologies are the kinds of tunnel, by the name that a config gives them. A new one is a package and a line.
var technologies = map[string]func(project.Service) forwarder.Technology{
	project.Kubectl: kubectl.New,
	project.SSH:     ssh.New,
	project.TCP:     tcp.New,
	project.Command: command.New,
}

func technology(svc project.Service) (forwarder.Technology, error) {
	open, ok := technologies[svc.Technology]
	if !ok {
		return nil, fmt.Errorf("service %q: technology %q is not built in", svc.Name, svc.Technology)
	}
	return open(svc), nil
}

// Target names a service's far end as status shows it, for a project that is down.
func Target(svc project.Service) string {
	tech, err := technology(svc)
	if err != nil {
		return ""
	}
	return tech.Target()
}
