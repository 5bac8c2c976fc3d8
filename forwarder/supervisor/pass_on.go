package supervisor

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/forwarder/service"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
)

// passOn offers the listeners of those of the named services that other projects share to the oldest borrower, to the next one if that does not
// take them, and so on. All services are offered to the borrowers in the same order, so that one of them logs in. It is called within an operation, before the services are stopped here or lead elsewhere. A service whose listeners
// were taken is replaced by a stopped one; the old one goes on, without listeners, until its connections have ended. The other borrowers ask the
// new holder.
func (s *Supervisor) passOn(names []string) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var taken []string
	for _, name := range names {
		lent := s.loans.ofService(name)
		if len(lent) == 0 {
			continue
		}
		wg.Go(func() {
			if s.offerToBorrowers(s.active.Load().services[name], s.loans.byBorrowerAge(lent)) {
				mu.Lock()
				defer mu.Unlock()
				taken = append(taken, name)
			}
		})
	}
	wg.Wait()
	for _, name := range taken {
		s.retire(name)
	}
	for _, name := range names {
		for _, l := range s.loans.ofService(name) {
			l.revoke()
			<-l.doneCh
		}
	}
}

// offerToBorrowers offers a service's listeners to each borrower in turn, and reports whether one has taken them.
func (s *Supervisor) offerToBorrowers(svc *runningService, lent []*loan) bool {
	if svc == nil {
		return false
	}
	port, isHeld := svc.Snapshot().Port().(*heldPort)
	if !isHeld {
		return false
	}
	for _, l := range lent {
		files, err := port.held.source()
		if err != nil {
			s.log.Error("cannot copy a listener", "service", l.service, "error", err)
			return false
		}
		takenCh := make(chan bool, 1)
		hasTaken := false
		select {
		case l.offerCh <- offer{files, takenCh, serviceHoldName(l.service)}:
			hasTaken = <-takenCh // within offerTimeout
		case <-l.doneCh:
		}
		closeFiles(files)
		s.log.Info("offered a service to a project that shares it", "service", l.service, "project", l.request.Project, "taken", hasTaken)
		if hasTaken {
			return true
		}
	}
	return false
}

// retire replaces a service, whose listeners another project has by now, by a stopped one, and has its connections end by themselves.
func (s *Supervisor) retire(name string) {
	before := s.active.Load()
	old := before.services[name]
	now := old.Snapshot()
	definition, err := service.Define(now.Service, now.Driver)
	if err != nil { // it was defined before
		s.log.Error("cannot define a service again", "service", name, "error", err)
		return
	}
	if now.Port() != nil {
		now.Port().Release()
	}
	old.isRetired.Store(true) // what happens to it from now on is not what happens to the service
	after := *before
	after.services = maps.Clone(before.services)
	after.services[name] = s.addService(definition)
	s.active.Store(&after)
	s.events.publish(eventlog.Event{
		Kind: eventlog.StateChanged, Service: name, From: string(now.State), To: string(forwarder.Stopped),
	}, forwarder.Stopped)
	s.retired.add(old, name)
	s.tasks.Go(func() {
		defer s.retired.remove(old)
		s.retired.awaitLastClient(old)
		<-old.Stop()
		old.stopRun()
	})
	s.changes.Announce()
}

// passOnChanged passes on those of the named services whose tunnels would lead elsewhere if they were opened now, as these definitions say. It is
// called within an operation.
func (s *Supervisor) passOnChanged(definitions []project.Service, names []string) {
	var lent []*loan
	for _, l := range s.loans.list() {
		if slices.Contains(names, l.service) {
			lent = append(lent, l)
		}
	}
	if lent == nil {
		return
	}
	// Other drivers: those of the tunnels must not fix anything that is not used after all.
	drivers := newDrivers(context.Background(), forwarder.Host{Dir: s.root(), Log: s.log})
	defer func() { _ = drivers.close() }()
	var changed []string
	for _, l := range lent {
		i := slices.IndexFunc(definitions, func(svc project.Service) bool { return svc.Name == l.service })
		if i < 0 || slices.Contains(changed, l.service) {
			continue
		}
		if driver, err := drivers.forService(definitions[i]); err != nil || !s.hasLoanTarget(l, definitions[i], driver, time.Now()) {
			changed = append(changed, l.service)
		}
	}
	s.passOn(changed)
}

// passOnReplaced passes on the services that are lent and which another config does not have, has at another address, does not want, or leads
// elsewhere. It returns what is active then. It is called within an operation.
func (s *Supervisor) passOnReplaced(before *activeConfig, next *loadedConfig, environment environmentChange) *activeConfig {
	wanted := wantedServices(next.project, s.selection())
	var replaced, reopened []string
	for _, name := range s.loans.services() {
		old, had := before.project.FindService(name)
		svc, stays := next.project.FindService(name)
		switch {
		case !had:
		case !stays || !slices.Contains(wanted, name) || !slices.Equal(old.ListenAddresses(), svc.ListenAddresses()):
			replaced = append(replaced, name)
		case !hasSameTunnel(old, svc) || environment.isUsedBy(name) || environment.mayHelp(before.services[name].Snapshot()):
			reopened = append(reopened, name)
		}
	}
	if len(replaced)+len(reopened) == 0 {
		return before
	}
	s.passOn(replaced)
	s.passOnChanged(next.project.Services, reopened)
	return s.active.Load()
}

// startAgain starts the named services that are wanted and stopped. It is called within an operation.
func (s *Supervisor) startAgain(names []string) {
	active := s.active.Load()
	wanted := wantedServices(active.project, s.selection())
	active.startServices(slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !slices.Contains(wanted, name) }), service.StartOptions{})
}

// retiredServices are services whose listeners another project has taken over, until their connections have ended. It is safe for concurrent use.
type retiredServices struct {
	changes wait.Broadcast // of the set

	mu       sync.Mutex // guards the field below
	services map[*runningService]string

	endOnce sync.Once
	endCh   chan struct{} // closed by end
}

func newRetiredServices() *retiredServices {
	return &retiredServices{services: make(map[*runningService]string), endCh: make(chan struct{})}
}

func (r *retiredServices) add(svc *runningService, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.services[svc] = name
}

func (r *retiredServices) remove(svc *runningService) {
	r.mu.Lock()
	delete(r.services, svc)
	r.mu.Unlock()
	r.changes.Announce()
}

// end has the connections that are left end now.
func (r *retiredServices) end() { r.endOnce.Do(func() { close(r.endCh) }) }

// openConnections counts the clients by the names of the services, and returns how many services there are.
func (r *retiredServices) openConnections() (open map[string]int, services int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	open = make(map[string]int)
	for svc, name := range r.services {
		if stats := svc.Snapshot().Stats(); stats.Open+stats.Waiting > 0 {
			open[name] += stats.Open + stats.Waiting
		}
	}
	return open, len(r.services)
}

// awaitLastClient returns when a service has no clients any more, after maxKeepTime, or after end.
func (r *retiredServices) awaitLastClient(svc *runningService) {
	limit, tick := time.NewTimer(maxKeepTime), time.NewTicker(5*time.Second)
	defer limit.Stop()
	defer tick.Stop()
	for {
		if stats := svc.Snapshot().Stats(); stats.Open+stats.Waiting == 0 {
			return
		}
		select {
		case <-svc.lastClientCh:
		case <-tick.C:
		case <-limit.C:
			return
		case <-r.endCh:
			return
		}
	}
}

// drainRetired waits until the connections of services that were passed on have ended, or ctx ends. Meanwhile it records what is left.
func (s *Supervisor) drainRetired(ctx context.Context) {
	defer s.retired.end()
	until := time.Now().Add(maxKeepTime)
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		change := s.retired.changes.Changed()
		open, services := s.retired.openConnections()
		if services == 0 {
			return
		}
		s.recordDraining(ctx, lockstate.Draining{Process: s.self, Connections: open, Until: until, PassedOn: true})
		select {
		case <-change:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// serviceState is what a running service is beside its run loop.
type serviceState struct {
	isRetired    atomic.Bool   // its events are not published
	lastClientCh chan struct{} // receives when its last client disconnects
}
