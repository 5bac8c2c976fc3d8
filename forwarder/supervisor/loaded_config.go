package supervisor

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"

	"github.com/localport-sh/localport/forwarder/filelimit"
	"github.com/localport-sh/localport/forwarder/service"
	"github.com/localport-sh/localport/probe/builtin"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/environ"
)

// loadedConfig is a valid config that is not active yet.
type loadedConfig struct {
	files       *project.Files
	project     *project.Project
	ports       map[string]int // of services with local_port = "auto"
	definitions map[string]service.Definition
}

// loadConfig reads, checks and parses the files. It changes nothing.
func (s *Supervisor) loadConfig() (*loadedConfig, error) {
	files, err := s.source.readAllowed()
	if err != nil {
		return nil, err
	}
	return s.parseConfig(files)
}

func (s *Supervisor) parseConfig(files *project.Files) (*loadedConfig, error) {
	return s.parseConfigWith(files, s.env.lookup)
}

// parseConfigWith is parseConfig with the variables of another environment.
func (s *Supervisor) parseConfigWith(files *project.Files, lookup func(string) (string, bool)) (*loadedConfig, error) {
	l := &loadedConfig{files: files, ports: maps.Clone(s.store.state().Ports), definitions: make(map[string]service.Definition)}
	if l.ports == nil {
		l.ports = make(map[string]int)
	}
	parsed, err := project.Parse(files, project.Options{
		Getenv: lookup, Checks: builtin.Types(), Technologies: Technologies(),
		Linger: s.userConfig().Linger, KeepConnections: s.userConfig().KeepConnections,
		PickAutoPort: func(service string) int { return s.pickAutoPort(l.ports, service) },
	})
	if err != nil {
		return nil, err
	}
	if err := filelimit.Check(filelimit.Current(), parsed.Services); err != nil {
		return nil, err
	}
	l.project = parsed
	for _, svc := range parsed.Services {
		driver, err := s.drivers.forService(svc)
		if err != nil {
			return nil, err
		}
		if l.definitions[svc.Name], err = service.Define(svc, driver); err != nil {
			return nil, fmt.Errorf("service %q: %w", svc.Name, err)
		}
	}
	return l, nil
}

// useConfig sets the masked secrets and the children's environment to those of a config that is about to run. It returns the names of the
// variables that changed. shell is the environment with which the config was parsed; nil: the present one.
func (s *Supervisor) useConfig(l *loadedConfig, shell environ.Env) (changedVariables []string) {
	secrets := l.project.Secrets
	s.secrets.Store(&secrets)
	return s.env.replace(shell, l.project.DotEnv)
}

// pickAutoPort picks the port of a service with local_port = "auto": the one it had, unless that is now in use.
func (s *Supervisor) pickAutoPort(ports map[string]int, service string) int {
	others := maps.Clone(ports)
	delete(others, service)
	isTaken := func(port int) bool {
		return slices.Contains(slices.Collect(maps.Values(others)), port) || !s.isPortFree(service, port)
	}
	port := ports[service]
	if port == 0 || isTaken(port) {
		port = project.PickAutoPort(s.root(), service, isTaken)
	}
	ports[service] = port
	return port
}

// isPortFree reports whether a service can use a port: no process listens on it, or the service itself holds it.
func (s *Supervisor) isPortFree(service string, port int) bool {
	if active := s.active.Load(); active != nil && active.services[service] != nil {
		if now := active.services[service].Snapshot(); now.IsPortHeld() && now.Service.LocalPort == port {
			return true
		}
	}
	if s.inherited.hasListener(service, port) {
		return true
	}
	if s.predecessor != nil && s.predecessor.IsAlive() && s.store.state().Ports[service] == port {
		return true // the predecessor is about to hand it over
	}
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return ln.Close() == nil
}
