package supervisor

import (
	"context"
	"errors"
	"fmt"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/command"
	"github.com/localport-sh/localport/forwarder/kubectl"
	"github.com/localport-sh/localport/forwarder/ssh"
	"github.com/localport-sh/localport/forwarder/tcp"
	"github.com/localport-sh/localport/project"
)

// technologies are the registered technologies. A new one is a package and a line here.
var technologies = []forwarder.Technology{
	kubectl.Technology,
	ssh.Technology,
	tcp.Technology,
	command.Technology,
}

// Technologies are the technologies that a config may name.
func Technologies() []project.TechnologyType {
	types := make([]project.TechnologyType, len(technologies))
	for i, technology := range technologies {
		types[i] = technology.TechnologyType
	}
	return types
}

// variableUses has a function for each service whose tunnel uses variables of the environment: it reports whether one is used.
type variableUses map[string]func(name string) bool

// readVariableUses returns the uses of a config's services, with env as the environment of child processes. It reads files.
func readVariableUses(p *project.Project, env []string) variableUses {
	uses := make(variableUses)
	for _, svc := range p.Services {
		for _, technology := range technologies {
			if technology.Name == svc.Technology && technology.VariableUse != nil {
				uses[svc.Name] = technology.VariableUse(svc, p.Root, env)
			}
		}
	}
	return uses
}

// Target names a service's far end for status, for a project that is down.
func Target(ctx context.Context, root string, svc project.Service) string {
	drivers := newDrivers(ctx, forwarder.Host{Dir: root})
	defer func() { _ = drivers.close() }()
	return drivers.target(svc)
}

// Login returns the login of a service in the foreground, for child processes in dir with this environment.
func Login(svc project.Service, dir string, env []string) forwarder.Login {
	for _, technology := range technologies {
		if technology.Name == svc.Technology && technology.Login != nil {
			login := technology.Login(svc, dir, env)
			if login.Name != "" {
				login.Key = technology.Name + " " + login.Key
			}
			return login
		}
	}
	return forwarder.Login{}
}

// Explain returns what can be found out about where a service's tunnel leads. Only Dir and Env of run are used. The config must be allowed.
func Explain(ctx context.Context, svc project.Service, run forwarder.Run) []forwarder.Fact {
	for _, technology := range technologies {
		if technology.Name == svc.Technology && technology.Explain != nil {
			return technology.Explain(ctx, svc, run)
		}
	}
	return nil
}

// Preflight returns the first thing that a service's tunnel needs on this machine and that is missing; nil if nothing is. It connects to nothing.
func Preflight(svc project.Service, run forwarder.Run) *forwarder.Failure {
	for _, technology := range technologies {
		if technology.Name == svc.Technology && technology.Preflight != nil {
			return technology.Preflight(svc, run)
		}
	}
	return nil
}

// Verification returns the function that verifies where a service's tunnel leads, and a key that services with the same result share. The
// function is nil if there is nothing to verify. The config must be allowed.
func Verification(svc project.Service, dir string, env []string) (verify func(ctx context.Context, run forwarder.Run) forwarder.Verification, key, name string) {
	for _, technology := range technologies {
		if technology.Name == svc.Technology && technology.Verify != nil {
			login := Login(svc, dir, env)
			return func(ctx context.Context, run forwarder.Run) forwarder.Verification {
				return technology.Verify(ctx, svc, run)
			}, login.Key, login.Name
		}
	}
	return nil, "", ""
}

// drivers open the tunnels of a supervisor's services: one for each technology, by its name.
type drivers map[string]forwarder.Driver

func newDrivers(ctx context.Context, host forwarder.Host) drivers {
	all := make(drivers, len(technologies))
	for _, technology := range technologies {
		all[technology.Name] = technology.New(ctx, host)
	}
	return all
}

// forService returns the driver of a service.
func (d drivers) forService(svc project.Service) (forwarder.Driver, error) {
	if driver := d[svc.Technology]; driver != nil {
		return driver, nil
	}
	return nil, fmt.Errorf("service %q: technology %q is not built in", svc.Name, svc.Technology)
}

// target names the far end of a service; empty if it is unknown.
func (d drivers) target(svc project.Service) string {
	if driver := d[svc.Technology]; driver != nil {
		return svc.MaskTarget(driver.Target(svc))
	}
	return ""
}

// onNetworkChange tells the drivers that the network has changed.
func (d drivers) onNetworkChange() {
	for _, driver := range d {
		if observer, ok := driver.(forwarder.NetworkObserver); ok {
			observer.OnNetworkChange()
		}
	}
}

// close closes the drivers. Every tunnel must have been closed before.
func (d drivers) close() error {
	var all []error
	for _, driver := range d {
		all = append(all, driver.Close())
	}
	return errors.Join(all...)
}
