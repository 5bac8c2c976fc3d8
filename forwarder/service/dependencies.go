package service

import (
	"cmp"
	"fmt"
	"sync"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/wait"
)

// Dependencies is where the services of a project find the states of those that they depend on. It is safe for concurrent use.
type Dependencies struct {
	changes wait.Broadcast

	mu         sync.Mutex // guards the fields below
	states     map[string]forwarder.State
	waitingChs map[string]chan<- struct{} // tells a service that a client waits; by it the newest service of a name is known
}

// NewDependencies is empty.
func NewDependencies() *Dependencies {
	return &Dependencies{
		states: make(map[string]forwarder.State), waitingChs: make(map[string]chan<- struct{}),
	}
}

// dependency is a service that another one depends on.
type dependency struct {
	name  string
	state forwarder.State // empty: there is no such service
}

// add makes a service known, in the place of one of the same name that may still be ending.
func (d *Dependencies) add(name string, start chan<- struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.states, name)
	d.waitingChs[name] = start
}

// set says in which state a service is. It is ignored from one that has been replaced.
func (d *Dependencies) set(name string, state forwarder.State, start chan<- struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waitingChs[name] != start || d.states[name] == state {
		return
	}
	d.states[name] = state
	d.changes.Announce()
}

// remove forgets a service, unless another has replaced it.
func (d *Dependencies) remove(name string, start chan<- struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waitingChs[name] != start {
		return
	}
	delete(d.states, name)
	delete(d.waitingChs, name)
	d.changes.Announce()
}

// changed returns a channel that is closed at the next change. Get it before looking, so that none is missed.
func (d *Dependencies) changed() <-chan struct{} { return d.changes.Changed() }

// firstUnready is the first of the services that is not ready; zero if all are.
func (d *Dependencies) firstUnready(names []string) dependency {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range names {
		if state := d.states[name]; !state.Ready() {
			return dependency{name, state}
		}
	}
	return dependency{}
}

// notifyClientWaiting tells a service that a client of one that depends on it waits.
func (d *Dependencies) notifyClientWaiting(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if start := d.waitingChs[name]; start != nil {
		wait.Notify(start)
	}
}

// showBlocked shows what the attempt waits for. As long as that is being started, so is this service; clients wait for what
// can come by itself. It is false if everything has become ready meanwhile.
func (s *Service) showBlocked() bool {
	d := s.host.Dependencies.firstUnready(s.definition.DependsOn)
	s.blockedOn = d
	if d == (dependency{}) {
		return false
	}
	state, verb, hint := s.attemptState(), "waits for", ""
	if d.state.Settled() {
		state, verb, hint = forwarder.Failed, "depends on", "localport status tells why; localport restart "+d.name
	}
	reason := fmt.Sprintf("%s %q, which is %s", verb, d.name, describeState(d.state))
	if s.status.state != state || s.status.lastError != reason {
		s.setStateAndError(state, reason, hint)
	}
	switch {
	case d.state == forwarder.NeedsAttention || d.state == forwarder.Stopped:
		s.port.Reject()
	case d.state == forwarder.Failed && s.isDependencyNotified: // it was tried for our clients, without success
		s.port.DropWaiting()
		s.isDependencyNotified = false
	default:
		s.port.Hold()
	}
	return true
}

// describeState is a state in a sentence.
func describeState(state forwarder.State) string {
	if state == forwarder.NeedsAttention {
		return "in need of attention"
	}
	return cmp.Or(string(state), "not there")
}
