package supervisor

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder/relay"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
)

// Projects that have the same services, and start at the same instant or lose the project that has shared its ports, must not divide the services
// among them: each would log in to the same destination. So the supervisor that binds one port binds those of its other services too, while it
// keeps the user's other supervisors from binding any.
const (
	portLockTimeout = 2 * time.Second  // how long a bind waits for other supervisors; one of them may have been stopped by a signal
	siblingBindTime = 10 * time.Second // how long a port is kept for a service that has not yet bound it
	// A supervisor that is killed closes its sockets one after the other: this is how long, and how often, the ports are tried that it has shared.
	siblingWaitTime     = 300 * time.Millisecond
	siblingWaitInterval = 2 * time.Millisecond
)

// siblingListeners are the listeners that a bind of another service has bound, until their own services take them. It is safe for concurrent use.
type siblingListeners struct {
	bindMu sync.Mutex // held during a bind: the services of one supervisor do not compete for the lock between the supervisors. It is locked before mu.

	mu  sync.Mutex // guards the field below
	all map[string]*relay.Listeners
}

// take returns the listeners of a service; nil if there are none for its addresses.
func (sl *siblingListeners) take(svc project.Service) *relay.Listeners {
	sl.mu.Lock()
	listeners := sl.all[svc.Name]
	delete(sl.all, svc.Name)
	sl.mu.Unlock()
	if listeners == nil {
		return nil
	}
	wanted := svc.ListenAddresses()
	for _, addr := range listeners.Addrs() {
		if !slices.Contains(wanted, addr) {
			listeners.Close()
			return nil
		}
	}
	return listeners
}

// add keeps the listeners of a service for siblingBindTime.
func (sl *siblingListeners) add(name string, listeners *relay.Listeners) {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	if sl.all == nil {
		sl.all = make(map[string]*relay.Listeners)
	}
	sl.all[name] = listeners
	time.AfterFunc(siblingBindTime, func() {
		sl.mu.Lock()
		defer sl.mu.Unlock()
		if sl.all[name] == listeners {
			delete(sl.all, name)
			listeners.Close()
		}
	})
}

// has reports whether there are listeners of a service.
func (sl *siblingListeners) has(name string) bool {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	return sl.all[name] != nil
}

// close closes all listeners: their services are stopped.
func (sl *siblingListeners) close() {
	sl.bindMu.Lock()
	defer sl.bindMu.Unlock()
	sl.mu.Lock()
	defer sl.mu.Unlock()
	for name, listeners := range sl.all {
		delete(sl.all, name)
		listeners.Close()
	}
}

// bindWithSiblings binds the listeners of a service and, if that succeeds, those of the others that are to run and have no port.
func (s *Supervisor) bindWithSiblings(ctx context.Context, svc project.Service) (*relay.Listeners, error) {
	s.siblings.bindMu.Lock()
	defer s.siblings.bindMu.Unlock()
	if listeners := s.siblings.take(svc); listeners != nil {
		return listeners, nil
	}
	lockCtx, cancel := context.WithTimeout(ctx, portLockTimeout)
	defer cancel()
	defer lockstate.LockPorts(lockCtx)()
	listeners, err := relay.BindListeners(svc.ListenAddresses())
	if err != nil {
		return nil, err
	}
	lost := s.holderOfShared(svc.Name)
	for deadline := time.Now().Add(siblingWaitTime); s.bindSiblings(svc, lost) > 0 && time.Now().Before(deadline); {
		time.Sleep(siblingWaitInterval)
	}
	return listeners, nil
}

// bindSiblings binds the listeners of the services other than svc, and returns how many it could not bind that the project lost has shared, as it has
// shared svc until now; 0 if lost is empty.
func (s *Supervisor) bindSiblings(svc project.Service, lost string) (missing int) {
	for _, other := range s.unboundServices() {
		if other.Name == svc.Name || s.siblings.has(other.Name) {
			continue
		}
		listeners, err := relay.BindListeners(other.ListenAddresses())
		switch {
		case err == nil:
			s.siblings.add(other.Name, listeners)
		case lost != "" && s.holderOfShared(other.Name) == lost:
			missing++
		}
	}
	return missing
}

// holderOfShared returns the project that shares a service's port, or has until now; empty if none does.
func (s *Supervisor) holderOfShared(name string) string {
	active := s.active.Load()
	if active == nil || active.services[name] == nil {
		return ""
	}
	if shared := active.services[name].Snapshot().Shared; shared != nil {
		return shared.Project
	}
	return ""
}

// unboundServices are the services that are to run, and whose port is not bound here.
func (s *Supervisor) unboundServices() []project.Service {
	active := s.active.Load()
	if active == nil || s.isClosing.Load() || s.isReduced.Load() {
		return nil
	}
	var unbound []project.Service
	for _, name := range wantedServices(active.project, s.selection()) {
		svc := active.services[name]
		if svc == nil {
			continue
		}
		if now := svc.Snapshot(); !now.IsPortHeld() && !now.Service.Reverse {
			unbound = append(unbound, now.Service)
		}
	}
	return unbound
}
