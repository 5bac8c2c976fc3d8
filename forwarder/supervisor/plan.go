package supervisor

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/forwarder/service"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/project"
)

// plan is what runs: a config, and a service for each of its entries. It does not change; a reload makes another.
type plan struct {
	files    *project.Files
	project  *project.Project
	digest   string // of the files
	services map[string]*runningService
}

// runningService is a service whose goroutine runs.
type runningService struct {
	*service.Service
	lines *eventlog.File // what its tunnels' processes print
	end   func()         // ends the goroutine, and returns when that is so
}

// addService makes a service and runs it; it is stopped. Its goroutine runs until end.
func (s *Supervisor) addService(d service.Definition) *runningService {
	lines := eventlog.NewFile(s.dir.Log(d.Name), s.mask, limits(s.userConfig()))
	svc := service.New(s.serviceHost(), d, lines)
	return &runningService{svc, lines, s.launch(svc.Run)}
}

// serviceHost is what services are given.
func (s *Supervisor) serviceHost() service.Host {
	return service.Host{
		Log: s.log, Mask: s.mask, Dir: s.root(), Environ: s.env.list, Checks: s.checks, Seats: s.seats, Dependencies: s.dependencies,
		Report: s.news.tell, OnChange: s.changes.Announce, OnLastClient: func() { wait.Notify(s.lastClient) },
		NewRun: s.newRun, OpenPort: s.openPort, ExplainPort: explainPort, OnPortOpened: s.announcePort,
	}
}

// newRun makes what one tunnel needs: its run, and its directory.
func (s *Supervisor) newRun(lines *eventlog.File) (forwarder.Run, func(), error) {
	n := s.tunnels.Add(1)
	id := fmt.Sprintf("%s.%d", s.o.Run, n)
	sockets, err := s.folder.add(fmt.Sprint(n))
	if err != nil {
		return forwarder.Run{}, func() {}, err
	}
	run := forwarder.Run{ID: id, Dir: s.root(), Sockets: sockets, Env: s.env.list(), Log: lines.RunWriter(id)}
	return run, func() { _ = os.RemoveAll(sockets) }, nil
}

// startServices starts the named services side by side, and returns when each port is open or known not to be.
func (p *plan) startServices(names []string, o service.StartOptions) {
	var starting sync.WaitGroup
	for _, name := range names {
		starting.Go(func() { p.services[name].Start(o) })
	}
	starting.Wait()
}

// stopServices closes the ports of the named services and returns; their tunnels end afterwards, those first that depend on
// others. The channels are closed when a service has ended.
func (p *plan) stopServices(names []string) map[string]<-chan struct{} {
	ended := make(map[string]<-chan struct{})
	order := inDependencyOrder(p.project.Services, names)
	for _, name := range slices.Backward(order) {
		var after []<-chan struct{}
		for _, other := range p.project.Services {
			if slices.Contains(other.DependsOn, name) && ended[other.Name] != nil {
				after = append(after, ended[other.Name])
			}
		}
		ended[name] = p.services[name].Stop(after...)
	}
	return ended
}

// stopAll stops every service and returns when nothing of any runs.
func (p *plan) stopAll() {
	if p == nil {
		return
	}
	for _, ended := range p.stopServices(slices.Collect(maps.Keys(p.services))) {
		<-ended
	}
	for _, svc := range p.services {
		svc.end()
	}
}

// isWanted reports whether a service is to be up: the user named it, or it is enabled and nobody said otherwise, or what is
// wanted depends on it.
func isWanted(p *project.Project, w wishes, svc project.Service) bool {
	if slices.Contains(w.stopped, svc.Name) {
		return false
	}
	return w.names(svc) || slices.ContainsFunc(p.Services, func(other project.Service) bool {
		return slices.Contains(other.DependsOn, svc.Name) && isWanted(p, w, other)
	})
}

// wantedServices are the services of a project that are to be up.
func wantedServices(p *project.Project, w wishes) []string {
	var names []string
	for _, svc := range p.Services {
		if isWanted(p, w, svc) {
			names = append(names, svc.Name)
		}
	}
	return names
}

// wishes are what the user has said of services.
type wishes struct{ stopped, started, only []string }

// names reports whether a service is wanted for its own sake.
func (w wishes) names(svc project.Service) bool {
	switch {
	case slices.Contains(w.started, svc.Name):
		return true
	case len(w.only) > 0:
		return slices.Contains(w.only, svc.Name)
	}
	return svc.Enabled
}

func (s *Supervisor) wishes() wishes {
	state := s.store.state()
	return wishes{state.Stopped, state.Started, state.Only}
}

// retryNeedsAttention has the services tried again that wait for the user: something of the environment has changed.
func (p *plan) retryNeedsAttention() {
	for _, svc := range p.services {
		if svc.Snapshot().State == forwarder.NeedsAttention {
			svc.Restart()
		}
	}
}

// networkChanged has every service look at once whether its tunnel leads anywhere still.
func (p *plan) networkChanged() {
	for _, svc := range p.services {
		svc.NetworkChanged()
	}
}
