package supervisor

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/forwarder/service"
	"github.com/localport-sh/localport/forwarder/ssh"
	"github.com/localport-sh/localport/project"
)

// activeConfig is the config in use, with a running service for each entry. It is immutable; a reload makes another.
type activeConfig struct {
	files    *project.Files
	project  *project.Project
	digest   string            // of the files
	digests  map[string]string // of each file
	services map[string]*runningService
}

// runningService is a service with its run loop.
type runningService struct {
	*service.Service
	processLog *eventlog.File // output of its tunnels' processes
	stopRun    func()         // ends the run loop and waits for it
	*serviceState
}

// startServices starts the named services concurrently, and returns when each port is open or has failed to open.
func (c *activeConfig) startServices(names []string, o service.StartOptions) {
	if o.RequestedAt.IsZero() {
		o.RequestedAt = time.Now()
	}
	var wg sync.WaitGroup
	for _, name := range names {
		wg.Go(func() { c.services[name].Start(o) })
	}
	wg.Wait()
}

// stopServices closes the ports of the named services and returns. Their tunnels end afterwards, dependents first. A service's
// channel is closed when nothing of it runs.
func (c *activeConfig) stopServices(names []string) map[string]<-chan struct{} {
	ended := make(map[string]<-chan struct{})
	order := inDependencyOrder(c.project.Services, names)
	for _, name := range slices.Backward(order) {
		var after []<-chan struct{}
		for _, other := range c.project.Services {
			if slices.Contains(other.DependsOn, name) && ended[other.Name] != nil {
				after = append(after, ended[other.Name])
			}
		}
		ended[name] = c.services[name].Stop(after...)
	}
	return ended
}

// stopAll stops every service and waits until nothing of them runs.
func (c *activeConfig) stopAll() {
	if c == nil {
		return
	}
	for _, ended := range c.stopServices(slices.Collect(maps.Keys(c.services))) {
		<-ended
	}
	for _, svc := range c.services {
		svc.stopRun()
	}
}

// isWanted reports whether a service should run: it is selected, or a wanted service depends on it, and the user has not
// stopped it.
func isWanted(p *project.Project, selected serviceSelection, svc project.Service) bool {
	if slices.Contains(selected.stopped, svc.Name) {
		return false
	}
	return selected.isSelected(svc) || slices.ContainsFunc(p.Services, func(other project.Service) bool {
		return slices.Contains(other.DependsOn, svc.Name) && isWanted(p, selected, other)
	})
}

// wantedServices are the names of the services that should run.
func wantedServices(p *project.Project, selected serviceSelection) []string {
	var names []string
	for _, svc := range p.Services {
		if isWanted(p, selected, svc) {
			names = append(names, svc.Name)
		}
	}
	return names
}

// serviceSelection is what the user's start and stop commands have selected.
type serviceSelection struct{ stopped, started, only []string }

// isSelected reports whether a service should run even if nothing depends on it.
func (s serviceSelection) isSelected(svc project.Service) bool {
	switch {
	case slices.Contains(s.started, svc.Name):
		return true
	case len(s.only) > 0:
		return slices.Contains(s.only, svc.Name)
	}
	return svc.Enabled
}

// doSSHKeysFail reports whether services through ssh need attention and none is connected.
func (c *activeConfig) doSSHKeysFail() bool {
	needsAttention := false
	for _, svc := range c.services {
		switch now := svc.Snapshot(); {
		case now.Service.Technology != ssh.Technology.Name:
		case now.State == forwarder.NeedsAttention:
			needsAttention = true
		case !now.UpSince.IsZero():
			return false
		}
	}
	return needsAttention
}

// retryNeedsAttention has the services that need attention try again, after the environment has changed.
func (c *activeConfig) retryNeedsAttention() {
	requestedAt := time.Now()
	for _, svc := range c.services {
		svc.RetryLogin(requestedAt)
	}
}

// onNetworkChange has every service check its tunnel now.
func (c *activeConfig) onNetworkChange() {
	for _, svc := range c.services {
		svc.OnNetworkChange()
	}
}
