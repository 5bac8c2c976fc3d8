package supervisor

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/localport-sh/localport/forwarder/filelimit"
	"github.com/localport-sh/localport/forwarder/service"
	"github.com/localport-sh/localport/probe/kinds"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/trust"
)

// errNotAllowed is a config that the user has not reviewed and allowed.
var errNotAllowed = errors.New("not allowed")

// loaded is a config that can run: everything that may fail has been tried.
type loaded struct {
	files       *project.Files
	project     *project.Project
	ports       map[string]int // of services with local_port = "auto"
	definitions map[string]service.Definition
}

// readAllowed reads the files and asks trust about just these bytes. The files are returned with an error too, where they could
// be read.
func (s *Supervisor) readAllowed() (*project.Files, error) {
	files, err := read(s.o.Config)
	if err != nil {
		return nil, err
	}
	verdict, files, err := s.trust.Ask(files)
	if err != nil {
		return files, err
	}
	if verdict != trust.Allowed {
		return files, fmt.Errorf("%s is %w as it stands", s.o.Config, errNotAllowed)
	}
	return files, nil
}

// load reads the files and makes what is needed to run them. It changes nothing.
func (s *Supervisor) load() (*loaded, error) {
	files, err := s.readAllowed()
	if err != nil {
		return nil, err
	}
	return s.parse(files)
}

func (s *Supervisor) parse(files *project.Files) (*loaded, error) {
	l := &loaded{files: files, ports: maps.Clone(s.store.state().Ports), definitions: make(map[string]service.Definition)}
	if l.ports == nil {
		l.ports = make(map[string]int)
	}
	parsed, err := project.Parse(files, project.Options{
		Getenv: s.env.lookup, Checks: kinds.Types(), Technologies: Technologies(), Linger: s.userConfig().Linger,
		PickAutoPort: func(service string) int { return s.autoPort(l.ports, service) },
	})
	if err != nil {
		return nil, err
	}
	if err := filelimit.Check(filelimit.Current(), parsed.Services); err != nil {
		return nil, err
	}
	l.project = parsed
	for _, svc := range parsed.Services {
		driver, err := s.drivers.of(svc)
		if err != nil {
			return nil, err
		}
		if l.definitions[svc.Name], err = service.Define(svc, driver); err != nil {
			return nil, fmt.Errorf("service %q: %w", svc.Name, err)
		}
	}
	return l, nil
}

// adopt makes the environment of children and the secrets those of a config that is about to run.
func (s *Supervisor) adopt(l *loaded) {
	s.env.setDotEnv(l.project.DotEnv)
	secrets := l.project.Secrets
	s.secrets.Store(&secrets)
}

// read reads the files of the project with this config.
func read(config string) (*project.Files, error) {
	if filepath.Base(config) == project.ConfigName {
		return project.Read(filepath.Dir(config))
	}
	return project.ReadFile(config)
}

// autoPort is the port of a service with local_port = "auto": the one it had, unless something else has that now.
func (s *Supervisor) autoPort(ports map[string]int, service string) int {
	others := maps.Clone(ports)
	delete(others, service)
	isTaken := func(port int) bool {
		return slices.Contains(slices.Collect(maps.Values(others)), port) || !s.isFree(service, port)
	}
	port := ports[service]
	if port == 0 || isTaken(port) {
		port = project.PickAutoPort(s.root(), service, isTaken)
	}
	ports[service] = port
	return port
}

// isFree reports whether the port could be bound, or is the service's already.
func (s *Supervisor) isFree(service string, port int) bool {
	if p := s.plan.Load(); p != nil && p.services[service] != nil {
		if now := p.services[service].Snapshot(); now.Held() && now.Service.LocalPort == port {
			return true
		}
	}
	if s.inherited.has(service, port) {
		return true
	}
	if s.predecessor != nil && s.predecessor.Alive() && s.store.state().Ports[service] == port {
		return true // it is about to be handed over
	}
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return ln.Close() == nil
}
