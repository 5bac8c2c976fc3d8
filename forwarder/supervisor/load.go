package supervisor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/localport-sh/localport/forwarder/filelimit"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/probe/kinds"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/trust"
)

// errNotAllowed is a config that the user has not read and allowed as it stands.
var errNotAllowed = errors.New("not allowed")

// load reads the files, asks trust about just these bytes, and parses them. Nothing is changed by an error, nor by
// success.
func (s *Supervisor) load() (*project.Files, *project.Project, error) {
	files, err := read(s.o.Config)
	if err != nil {
		return nil, nil, err
	}
	verdict, files, err := s.trust.Ask(files)
	if err != nil {
		return nil, nil, err
	}
	if verdict != trust.Allowed {
		return files, nil, fmt.Errorf("%s is %w as it stands", s.o.Config, errNotAllowed)
	}
	parsed, err := s.parse(files)
	return files, parsed, err
}

func (s *Supervisor) parse(files *project.Files) (*project.Project, error) {
	parsed, err := project.Parse(files, project.Options{
		Getenv: s.env.lookup, Checks: kinds.Types(), Technologies: Technologies(), AutoPort: s.autoPort, Linger: s.user.Linger,
	})
	if err != nil {
		return nil, err
	}
	if err := filelimit.Check(filelimit.Current(), parsed.Services); err != nil {
		return nil, err
	}
	s.env.setDotEnv(parsed.DotEnv)
	secrets := parsed.Secrets
	s.secrets.Store(&secrets)
	return parsed, nil
}

// read reads the files of the project with this config.
func read(config string) (*project.Files, error) {
	if filepath.Base(config) == project.ConfigName {
		return project.Read(filepath.Dir(config))
	}
	return project.ReadFile(config)
}

// autoPort is the port of a service with local_port = "auto": the one it had, unless something else has that now.
func (s *Supervisor) autoPort(service string) int {
	used := maps.Clone(s.state.Ports)
	delete(used, service)
	taken := func(port int) bool {
		return slices.Contains(slices.Collect(maps.Values(used)), port) || !s.free(service, port)
	}
	port := s.state.Ports[service]
	if port == 0 || taken(port) {
		port = project.AutoPort(s.root(), service, taken)
	}
	if s.state.Ports == nil {
		s.state.Ports = make(map[string]int)
	}
	s.state.Ports[service] = port
	return port
}

// free reports whether the port could be bound, or is the service's already.
func (s *Supervisor) free(service string, port int) bool {
	if f := s.forwards[service]; f != nil && f.held() && f.view().Port == port {
		return true
	}
	if s.inherited.has(service, port) {
		return true
	}
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return ln.Close() == nil
}

// wanted reports whether a service is to be up: the user named it, or it is enabled and nobody said otherwise, or what
// is wanted depends on it.
func (s *Supervisor) wanted(svc project.Service) bool { return s.wantedIn(s.project, svc) }

func (s *Supervisor) wantedIn(p *project.Project, svc project.Service) bool {
	if slices.Contains(s.state.Stopped, svc.Name) {
		return false
	}
	return s.named(svc) || slices.ContainsFunc(p.Services, func(other project.Service) bool {
		return slices.Contains(other.DependsOn, svc.Name) && s.wantedIn(p, other)
	})
}

// named reports whether a service is wanted for its own sake.
func (s *Supervisor) named(svc project.Service) bool {
	switch {
	case slices.Contains(s.state.Started, svc.Name):
		return true
	case len(s.state.Only) > 0:
		return slices.Contains(s.state.Only, svc.Name)
	}
	return svc.Enabled
}

// remember writes the user's word on services down, and makes every prompt look again.
func (s *Supervisor) remember(change func(*lockstate.Tx)) error {
	ctx, cancel := context.WithTimeout(s.work, 2*time.Second)
	defer cancel()
	state, err := s.dir.Update(ctx, func(tx *lockstate.Tx) error {
		change(tx)
		tx.Ports = s.state.Ports
		tx.Bump()
		return nil
	})
	if err == nil {
		s.state = state
	}
	return err
}
