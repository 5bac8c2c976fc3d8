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

// technologies are the kinds of tunnel. A new one is a package and a line here.
var technologies = []forwarder.Kind{
	kubectl.Kind,
	ssh.Kind,
	tcp.Kind,
	command.Kind,
}

func technology(svc project.Service) (forwarder.Technology, error) {
	for _, kind := range technologies {
		if kind.Name == svc.Technology {
			return kind.New(svc), nil
		}
	}
	return nil, fmt.Errorf("service %q: technology %q is not built in", svc.Name, svc.Technology)
}

// Technologies are what a config may say.
func Technologies() []project.TechnologyType {
	types := make([]project.TechnologyType, len(technologies))
	for i, kind := range technologies {
		types[i] = kind.TechnologyType
	}
	return types
}

// Target names a service's far end as status shows it, for a project that is down.
func Target(svc project.Service) string {
	tech, err := technology(svc)
	if err != nil {
		return ""
	}
	return tech.Target()
}
