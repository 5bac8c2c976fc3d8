package supervisor

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"

	"github.com/localport-sh/localport/forwarder/control"
	"github.com/localport-sh/localport/forwarder/journal"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
)

// Reload reads the files again and applies what is different.
func (s *Supervisor) Reload(context.Context) (control.Reload, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return control.Reload{}, control.ErrEnding
	}
	files, parsed, err := s.load()
	if err != nil {
		s.refused = refusedFiles{err: err}
		if files != nil {
			s.refused.digest = files.Digest()
		}
		return control.Reload{}, errors.New(s.mask(err.Error()))
	}
	s.dotEnvPath = files.DotEnvPath
	if files.Digest() == s.digest {
		return control.Reload{}, nil
	}
	reload, err := s.apply(parsed)
	if err != nil {
		return control.Reload{}, err
	}
	s.project, s.digest = parsed, files.Digest()
	s.remind(files)
	s.log.Info("config reloaded", "added", reload.Added, "removed", reload.Removed, "updated", reload.Updated)
	nudge(s.reloaded)
	s.news.tell(journal.Event{Kind: journal.Reload, Reason: reload.Summary()}, "")
	return reload, s.remember(func(*lockstate.Tx) {})
}

// apply turns the forwards that run into those of another config. A service that did not change keeps its tunnel,
// its connections and its port; one that changed keeps its port if that is the same.
func (s *Supervisor) apply(next *project.Project) (control.Reload, error) {
	reload := control.Reload{Changed: true}
	environment := !maps.Equal(s.project.DotEnv, next.DotEnv)
	made, err := s.makeChanged(next)
	if err != nil {
		return reload, err
	}
	for _, svc := range s.project.Services {
		if _, stays := next.Service(svc.Name); !stays {
			s.forwards[svc.Name].stop()
			delete(s.forwards, svc.Name)
			s.board.take(svc.Name)
			reload.Removed = append(reload.Removed, svc.Name)
		}
	}
	// Ports that change hands between services must be free before anyone takes one.
	for name := range made {
		if old := s.forwards[name]; old != nil {
			old.stop()
			reload.Updated = append(reload.Updated, name)
		} else {
			reload.Added = append(reload.Added, name)
		}
		s.forwards[name] = made[name]
	}
	for _, svc := range next.Services {
		if name := svc.Name; made[name] != nil {
			if s.wantedIn(next, svc) {
				made[name].start(s.work)
			}
		} else if s.update(next, svc, environment) {
			reload.Updated = append(reload.Updated, name)
		}
	}
	slices.Sort(reload.Added)
	slices.Sort(reload.Updated)
	return reload, nil
}

// makeChanged makes the forwards that a config needs anew: of services that were not there, and of those whose
// address changed. An error changes nothing.
func (s *Supervisor) makeChanged(next *project.Project) (map[string]*forward, error) {
	made := make(map[string]*forward)
	for _, svc := range next.Services {
		old, had := s.project.Service(svc.Name)
		if had && slices.Equal(old.Listens(), svc.Listens()) {
			continue
		}
		f, err := s.forward(svc)
		if err != nil {
			return nil, err
		}
		made[svc.Name] = f
	}
	return made, nil
}

// update gives a forward that keeps its address its new definition, and reports whether there was anything new:
// for one with a child that is the child's environment too.
func (s *Supervisor) update(next *project.Project, svc project.Service, environment bool) bool {
	wanted := s.wantedIn(next, svc)
	f := s.forwards[svc.Name]
	old, _ := s.project.Service(svc.Name)
	environment = environment && svc.Technology != project.TCP // it has no child to have an environment
	changed := !reflect.DeepEqual(old, svc) || environment
	switch {
	case !wanted:
		f.stop()
	case f.running() && !changed:
		return false
	}
	if !changed && !wanted {
		return false
	}
	if f.running() {
		f.give(order{svc: &svc, keep: !environment && sameTunnel(old, svc)})
		return changed
	}
	if err := f.become(svc); err != nil {
		f.log.Error("reload", "service", svc.Name, "error", err)
	}
	if wanted {
		f.start(s.work)
	}
	return changed
}

// sameTunnel reports whether two definitions of a service differ only in what a tunnel that is up need not know.
func sameTunnel(a, b project.Service) bool {
	for _, svc := range []*project.Service{&a, &b} {
		svc.Tags, svc.Description, svc.Enabled, svc.DependsOn = nil, "", false, nil
		svc.HealthCheck, svc.RestartPolicy = project.HealthCheck{}, project.RestartPolicy{}
		svc.ConnectTimeout, svc.IdleTimeout = 0, 0
	}
	return reflect.DeepEqual(a, b)
}
