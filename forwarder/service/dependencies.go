package service

import (
	"fmt"
	"sync"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/wait"
)

// Dependencies holds the states of a project's services for those that depend on them. It is safe for concurrent use.
type Dependencies struct {
	changes wait.Broadcast

	mu         sync.Mutex // guards the fields below
	states     map[string]dependency
	version    uint64                     // of the last change
	waitingChs map[string]chan<- struct{} // a service's signal that a client waits; also identifies the newest service of a name
}

// NewDependencies returns an empty Dependencies.
func NewDependencies() *Dependencies {
	return &Dependencies{
		states: make(map[string]dependency), waitingChs: make(map[string]chan<- struct{}),
	}
}

// dependency is a service that another one depends on, as of a change of its state.
type dependency struct {
	name    string
	state   forwarder.State // empty: there is no such service
	hint    string          // its own next step for the user; may be empty
	waitsOn string          // the dependency that it waits for itself; empty: none
	version uint64          // differs if something of it was different meanwhile: a failure may be that of another attempt
}

// add adds a service, replacing one of the same name that may not have ended yet.
func (d *Dependencies) add(name string, waitingCh chan<- struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.states, name)
	d.waitingChs[name] = waitingCh
}

// set sets what is known of a service, except the version, unless another has replaced it.
func (d *Dependencies) set(now dependency, waitingCh chan<- struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now.version = d.states[now.name].version
	if d.waitingChs[now.name] != waitingCh || d.states[now.name] == now {
		return
	}
	d.version++
	now.version = d.version
	d.states[now.name] = now
	d.changes.Announce()
}

// rootCause returns the service at the end of a chain of services that wait for each other: the one that has to become ready first.
func (d *Dependencies) rootCause(of dependency) dependency {
	d.mu.Lock()
	defer d.mu.Unlock()
	for range d.states { // a config has no cycles, but two configs are in use during a reload
		next := d.states[of.waitsOn]
		if of.waitsOn == "" || next.name == "" || next.state.IsReady() {
			break
		}
		of = next
	}
	return of
}

// remove removes a service, unless another has replaced it.
func (d *Dependencies) remove(name string, waitingCh chan<- struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waitingChs[name] != waitingCh {
		return
	}
	delete(d.states, name)
	delete(d.waitingChs, name)
	d.changes.Announce()
}

// changed returns a channel that is closed at the next change. Call it before reading, or a change may be missed.
func (d *Dependencies) changed() <-chan struct{} { return d.changes.Changed() }

// firstUnready returns the first of the services that is not ready; zero if all are.
func (d *Dependencies) firstUnready(names []string) dependency {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range names {
		current := d.states[name]
		current.name = name
		if !current.state.IsReady() {
			return current
		}
	}
	return dependency{}
}

// notifyClientWaiting signals a service that a client of a dependent waits.
func (d *Dependencies) notifyClientWaiting(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if waitingCh := d.waitingChs[name]; waitingCh != nil {
		wait.Notify(waitingCh)
	}
}

// showBlocked publishes which dependency the attempt waits for. Clients wait if it can become ready by itself. False if every
// dependency has become ready meanwhile.
func (s *Service) showBlocked() bool {
	d := s.host.Dependencies.firstUnready(s.definition.DependsOn)
	s.blockedOn = d
	if d == (dependency{}) {
		return false
	}
	state, verb, hint := s.attemptState(), "waiting for", ""
	if d.state.IsSettled() {
		state, verb = forwarder.Failed, "depends on"
	}
	reason := fmt.Sprintf("%s %q, which %s", verb, d.name, describeState(d.state))
	if state == forwarder.Failed {
		rootCause := s.host.Dependencies.rootCause(d)
		if rootCause.name != d.name {
			reason += fmt.Sprintf(" because of %q, which %s", rootCause.name, describeState(rootCause.state))
		}
		hint = `"localport why ` + rootCause.name + `" shows why; then run "localport restart ` + rootCause.name + `"`
		if rootCause.hint != "" {
			hint = rootCause.name + ": " + rootCause.hint
		}
	}
	if s.status.state != state || s.status.lastError != reason || s.status.hint != hint {
		s.setStateAndError(state, reason, hint)
	}
	switch {
	case d.state == forwarder.NeedsAttention || d.state == forwarder.Stopped:
		s.port.Reject()
	case d.state == forwarder.Failed && s.isDependencyNotified: // it was started for our clients and failed
		s.port.DropWaiting()
		s.isDependencyNotified = false
	default:
		s.port.Hold()
	}
	return true
}

// describeState is the predicate of a dependency's state in a message.
func describeState(state forwarder.State) string {
	switch state {
	case "":
		return "does not exist"
	case forwarder.NeedsAttention:
		return "needs attention"
	case forwarder.Failed:
		return "has failed"
	}
	return "is " + string(state)
}
