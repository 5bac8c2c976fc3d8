package service

import (
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/wait"
)

type requestKind int

const (
	requestStart requestKind = iota
	requestStop
	requestRestart
	requestRedefine
)

// request is what others ask of a service.
type request struct {
	kind       requestKind
	at         time.Time
	definition *Definition
	keepTunnel bool
	spawned    bool
	ask        string
	userNeeded bool
	after      []<-chan struct{}
	done       chan<- struct{} // closed when the first half is done: the port is open or closed, and the snapshot says so
	ended      chan<- struct{} // of a stop: closed when nothing runs any more
}

// send hands a request to the loop and returns when its first half is done, or the loop has ended.
func (s *Service) send(r request) {
	done := make(chan struct{})
	r.at, r.done = time.Now(), done
	select {
	case s.requests <- r:
	case <-s.done:
		return
	}
	select {
	case <-done:
	case <-s.done:
	}
}

// StartOptions say how a service is started.
type StartOptions struct {
	// Spawned: the caller has brought the supervisor up just now. A service that failed since then is not tried a second time.
	Spawned bool
}

// Start starts a stopped service. One that runs and has failed, waits for its port, the user or its next attempt gets an attempt
// at once. When it returns, the port is open or the snapshot says why it is not.
func (s *Service) Start(o StartOptions) { s.send(request{kind: requestStart, spawned: o.Spawned}) }

// Stop closes the port. When it returns, the port is free and the snapshot says so. Then, after every channel of after is
// closed, the tunnel ends; the returned channel is closed when nothing of the service runs any more.
func (s *Service) Stop(after ...<-chan struct{}) <-chan struct{} {
	ended := make(chan struct{})
	s.send(request{kind: requestStop, after: after, ended: ended})
	select {
	case <-s.done:
		return s.done
	default:
		return ended
	}
}

// Restart has another tunnel opened; one that is stopped is started.
func (s *Service) Restart() { s.send(request{kind: requestRestart}) }

// LogIn has another tunnel opened while the user answers questions at a socket. A service that waited for a login does so again
// if this one fails.
func (s *Service) LogIn(ask string) {
	needed := ask != "" && s.Snapshot().State == forwarder.NeedsAttention
	s.send(request{kind: requestRestart, ask: ask, userNeeded: needed})
}

// Redefine gives the service another definition with the same addresses. Its tunnel stays if keepTunnel says that what is
// different does not concern it.
func (s *Service) Redefine(d Definition, keepTunnel bool) {
	s.send(request{kind: requestRedefine, definition: &d, keepTunnel: keepTunnel})
}

// NetworkChanged has the service look at once whether its tunnel still leads anywhere.
func (s *Service) NetworkChanged() { wait.Notify(s.network) }

func (r request) classify(s *Service) (event, bool) {
	switch r.kind {
	case requestStart:
		return r.classifyStart(s)
	case requestStop:
		s.stopWaiters = append(s.stopWaiters, r.ended)
		s.stopAfter = r.after
		return eventStop, true
	case requestRestart:
		if s.isStopped() {
			return r.classifyStart(s)
		}
		return s.restart(r), true
	}
	return s.redefine(r)
}

func (s *Service) isStopped() bool { return s.phase == phaseStopped || s.phase == phaseStopping }

func (r request) classifyStart(s *Service) (event, bool) {
	switch s.phase {
	case phaseStopped, phaseStopping:
		s.attempts.reset(r.at)
		s.attempts.ask, s.attempts.userNeeded = r.ask, r.userNeeded
		s.cause = errRequested // what follows the end of the last tunnel, if that is still being closed
		s.publish(func(st *status) {
			st.state, st.restarts, st.failures, st.lastError, st.hint, st.ending = s.firstState(), 0, 0, "", "", false
		})
		return eventStart, true
	case phaseUnbound, phaseBackoff, phaseFailed, phaseNeedsAttention:
		if r.spawned {
			return 0, false
		}
		return s.restart(r), true
	}
	return 0, false
}

// firstState is the state of a service that has just been started.
func (s *Service) firstState() forwarder.State {
	if s.definition.OnDemand {
		return forwarder.Idle
	}
	return forwarder.Starting
}

// restart takes the user's request over: the attempt or tunnel of the moment ends by it, not by a failure.
func (s *Service) restart(r request) event {
	s.attempts.request(r)
	s.cause = errRequested
	s.setState(forwarder.Restarting)
	return eventRestart
}

// redefine takes another definition over.
func (s *Service) redefine(r request) (event, bool) {
	target := r.definition.Driver.Target(r.definition.Service)
	s.definition = *r.definition
	s.publish(func(st *status) { st.target = target })
	if s.port != nil {
		s.port.SetConnectTimeout(s.definition.ConnectTimeout)
	}
	if r.keepTunnel || s.isStopped() {
		return eventRedefine, true
	}
	return s.restart(r), true
}

// answer tells the sender that the first half of its request is done, or has it told when the port has been tried or is free.
func (s *Service) answer(r request) {
	switch {
	case r.kind == requestStop && s.releasing != nil:
		s.releaseWaiters = append(s.releaseWaiters, r.done)
	case r.kind != requestStop && s.binding != nil:
		s.bindWaiters = append(s.bindWaiters, r.done)
	default:
		close(r.done)
	}
}
