package supervisor

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/forwarder/service"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
)

// Reload reads the files again and applies what is different. It returns when the ports are as the new config has them; tunnels
// come and go afterwards. After an error nothing has changed.
func (s *Supervisor) Reload(ctx context.Context) (api.Reload, error) {
	for {
		// Other acts, the end among them, do not wait for the disk that the files are on.
		before := s.plan.Load()
		files, err := s.readAllowed()
		if err := s.beginAct(ctx); err != nil {
			return api.Reload{}, err
		}
		if s.plan.Load() != before {
			s.endAct()
			continue // what was read may be older than what another reload has applied
		}
		reload, err := s.reload(before, files, err)
		s.endAct()
		if err != nil {
			return reload, errors.New(s.mask(err.Error()))
		}
		return reload, nil
	}
}

// reload applies files that were read; err is why they cannot run. It is called within an act.
func (s *Supervisor) reload(before *plan, files *project.Files, err error) (api.Reload, error) {
	var next *loaded
	if err == nil {
		next, err = s.parse(files)
	}
	if err != nil {
		refused := refusedFiles{err: err}
		if files != nil {
			refused.digest = files.Digest()
		}
		s.note(func(n *notes) { n.refused = refused })
		return api.Reload{}, err
	}
	if files.Digest() == before.digest {
		s.note(func(n *notes) { n.pending = "" })
		return api.Reload{}, nil
	}
	reload := s.apply(before, next)
	s.remind()
	s.log.Info("config reloaded", "added", reload.Added, "removed", reload.Removed, "updated", reload.Updated)
	wait.Notify(s.reloaded)
	s.note(func(n *notes) { n.pending = "" })
	s.news.tell(eventlog.Event{Kind: eventlog.ConfigReloaded, Reason: reload.Summary()}, "")
	s.save(func(state *lockstate.State) { state.Ports = next.ports }, true)
	return reload, nil
}

// apply turns the services that run into those of another config. A service that did not change keeps its tunnel, its
// connections and its port; one that changed keeps its port if that is the same.
func (s *Supervisor) apply(before *plan, next *loaded) api.Reload {
	reload := api.Reload{Changed: true}
	environmentChanged := !maps.Equal(before.project.DotEnv, next.project.DotEnv)
	s.adopt(next)
	after := &plan{
		files: next.files, project: next.project, digest: next.files.Digest(), services: make(map[string]*runningService),
	}
	var replaced []string // whose address is another, or that are there no more
	for _, old := range before.project.Services {
		svc, stays := next.project.FindService(old.Name)
		switch {
		case stays && slices.Equal(old.ListenAddresses(), svc.ListenAddresses()):
			after.services[old.Name] = before.services[old.Name]
			continue
		case stays:
			reload.Updated = append(reload.Updated, old.Name)
		default:
			reload.Removed = append(reload.Removed, old.Name)
		}
		replaced = append(replaced, old.Name)
	}
	// Ports that change hands between services must be free before anyone takes one.
	ended := before.stopServices(replaced)
	var added []string
	for _, svc := range next.project.Services {
		if after.services[svc.Name] == nil {
			after.services[svc.Name] = s.addService(next.definitions[svc.Name])
			added = append(added, svc.Name)
		}
	}
	s.resizeSeats(after)
	s.plan.Store(after)
	s.changes.Announce()
	s.endLater(before, ended)
	w := s.wishes()
	wanted := wantedServices(next.project, w)
	after.startServices(without(wanted, without(wanted, added)), service.StartOptions{})
	for _, svc := range next.project.Services {
		old, had := before.project.FindService(svc.Name)
		switch {
		case !had:
			reload.Added = append(reload.Added, svc.Name)
		case !slices.Contains(added, svc.Name) &&
			s.update(after, old, next.definitions[svc.Name], slices.Contains(wanted, svc.Name), environmentChanged):
			reload.Updated = append(reload.Updated, svc.Name)
		}
	}
	slices.Sort(reload.Added)
	slices.Sort(reload.Updated)
	return reload
}

// endLater ends the goroutines of services that are no part of the plan any more, when nothing of them runs.
func (s *Supervisor) endLater(before *plan, ended map[string]<-chan struct{}) {
	for name, done := range ended {
		svc := before.services[name]
		s.running.Go(func() {
			<-done
			svc.end()
		})
	}
}

// update gives a service that keeps its address its new definition, and reports whether there was anything new: for one with
// a child that is the child's environment too.
func (s *Supervisor) update(p *plan, old project.Service, d service.Definition, wanted, environmentChanged bool) bool {
	svc := p.services[d.Name]
	environmentChanged = environmentChanged && !childless(d.Service)
	changed := !reflect.DeepEqual(old, d.Service) || environmentChanged
	if !wanted {
		svc.Stop()
	}
	if changed {
		svc.Redefine(d, !environmentChanged && hasSameTunnel(old, d.Service))
	}
	if wanted && svc.Snapshot().IsStopped() {
		svc.Start(service.StartOptions{})
	}
	return changed
}

// hasSameTunnel reports whether two definitions of a service differ only in what a tunnel that is up need not know.
func hasSameTunnel(a, b project.Service) bool {
	for _, svc := range []*project.Service{&a, &b} {
		svc.Tags, svc.Description, svc.Enabled, svc.DependsOn = nil, "", false, nil
		svc.HealthCheck, svc.RestartPolicy = project.HealthCheck{}, project.RestartPolicy{}
		svc.ConnectTimeout, svc.IdleTimeout = 0, 0
	}
	return reflect.DeepEqual(a, b)
}
