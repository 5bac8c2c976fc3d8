package service

import (
	"context"
	"errors"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// attemptPace is the least time between two attempts that clients cause.
const attemptPace = time.Second

// input is something that happened. classify takes over what it brings, and says which event it is in the present phase; false
// if it is none.
type input interface {
	classify(s *Service) (event, bool)
}

// nextInput waits for the next input; nil when ctx has ended. Channels of what does not run at the moment are nil.
func (s *Service) nextInput(ctx context.Context) input {
	var opened <-chan openResult
	if s.opening != nil {
		opened = s.opening.result
	}
	var dependencies <-chan struct{}
	if s.phase == phaseBlocked {
		dependencies = s.host.Dependencies.changed()
		if s.host.Dependencies.missing(s.definition.DependsOn) != s.blockedOn {
			return dependenciesChanged{} // before there was a channel to tell it
		}
	}
	h := s.healthChannels()
	select {
	case <-ctx.Done():
		return nil
	case r := <-s.requests:
		return r
	case b := <-s.binding:
		return b
	case <-s.releasing:
		return portReleased{}
	case <-s.bindTimer.C:
		return bindDue{}
	case o := <-opened:
		return o
	case <-s.closing:
		return closed{}
	case <-s.attemptTimer.C:
		return attemptDue{}
	case <-dependencies:
		return dependenciesChanged{}
	case <-s.waiting:
		return clientWaiting{}
	case <-s.network:
		return networkChanged{}
	case <-s.room:
		return roomChanged{}
	case t := <-s.proofs:
		return tunnelProof{t}
	case r := <-s.refusals:
		return r
	case p := <-s.panics:
		return p
	case <-s.lastClient:
		return lastClientLeft{}
	case <-h.tunnelDone:
		return tunnelEnded{}
	case <-h.tunnelChanged:
		return tunnelChanged{}
	case <-h.checkDue:
		return checkDue{}
	case r := <-h.checkResult:
		return r
	case <-h.idle:
		return idleTimeout{}
	case <-h.processCheck:
		return processCheckDue{}
	}
}

type (
	portReleased        struct{}
	bindDue             struct{}
	closed              struct{}
	attemptDue          struct{}
	dependenciesChanged struct{}
	clientWaiting       struct{}
	networkChanged      struct{}
	roomChanged         struct{}
	tunnelEnded         struct{}
	tunnelProof         struct{ tunnel forwarder.Tunnel }
)

// bindResult is how binding the port went.
type bindResult struct {
	port Port
	err  error
}

func (b bindResult) classify(s *Service) (event, bool) {
	s.binding = nil
	s.cancelBind()
	s.takePort(b)
	tunnelClosed := s.phase == phaseClosing && s.closing == nil
	switch {
	case b.err != nil && tunnelClosed:
		return eventPortLost, true
	case b.err != nil:
		return eventBindFailed, true
	case tunnelClosed:
		return s.outcome(), true
	case s.definition.OnDemand:
		return eventBoundOnDemand, true
	}
	return eventBound, true
}

// classify tells those who wait for the port to be free. What runs goes on: the next bind and the end wait for it by themselves.
func (portReleased) classify(s *Service) (event, bool) {
	s.releasing = nil
	closeAll(s.releaseWaiters)
	s.releaseWaiters = nil
	return 0, false
}

func (bindDue) classify(*Service) (event, bool) { return eventBindDue, true }

func (attemptDue) classify(s *Service) (event, bool) {
	s.attempts.urgent = s.attempts.urgent || s.port.Stats().Waiting > 0
	return eventAttemptDue, true
}

func (dependenciesChanged) classify(s *Service) (event, bool) { return s.dependencyEvent(), true }

// dependencyEvent says whether the attempt that is due may begin.
func (s *Service) dependencyEvent() event {
	if s.host.Dependencies.missing(s.definition.DependsOn) != (dependency{}) {
		return eventBlocked
	}
	return eventUnblocked
}

func (clientWaiting) classify(s *Service) (event, bool) {
	switch {
	case s.port == nil:
		return 0, false // it waited at a port that has been closed
	case time.Since(s.attempts.startedAt) < attemptPace:
		return eventClientEarly, true
	}
	s.attempts.urgent = true
	return eventClientWaiting, true
}

// classify leaves an attempt alone that has just begun, and one in which the user answers questions.
func (networkChanged) classify(s *Service) (event, bool) {
	if s.phase == phaseConnecting {
		if s.opening.ask || time.Since(s.attempts.startedAt) < attemptPace || s.cause != nil {
			return 0, false
		}
		s.cause = errNetworkChanged
	}
	if s.phase == phaseBackoff || s.phase == phaseFailed {
		s.attempts.urgent = true
	}
	return eventNetworkChanged, true
}

// classify keeps a tunnel that was ready before the attempt was aborted, unless another was asked for.
func (o openResult) classify(s *Service) (event, bool) {
	attempt := s.opening
	s.opening = nil
	attempt.cancel()
	if o.err == nil {
		s.tunnel, s.removeRun = o.tunnel, o.removeRun
		if errors.Is(s.cause, errRequested) {
			return eventTunnelLost, true
		}
		return eventOpened, true
	}
	if s.cause == nil {
		s.cause = o.err
		if attempt.userNeeded {
			s.cause = needUserAgain(o.err)
		}
	}
	s.settle()
	return s.outcome(), true
}

func (tunnelEnded) classify(s *Service) (event, bool) {
	s.takeRefusals()
	s.cause = s.tunnel.Err()
	if s.cause == nil {
		s.cause = &forwarder.Failure{Reason: "the tunnel ended"}
	}
	return s.lose(reasonEnded), true
}

// lose notes why the tunnel is given up.
func (s *Service) lose(reason string) event {
	s.attempts.reason = reason
	if time.Since(s.connectedAt) >= stableTime {
		s.attempts.failures = 0
	}
	s.settle()
	return eventTunnelLost
}

func (closed) classify(s *Service) (event, bool) {
	s.closing = nil
	if s.phase == phaseStopping {
		return eventClosed, true // which tells those who wait, after the snapshot says so
	}
	s.tellStopped()
	switch {
	case s.port != nil:
		return s.outcome(), true
	case s.binding != nil: // what follows is decided when it is known whether the port is ours
		return 0, false
	}
	return eventPortLost, true
}

// tellStopped tells those who wait for the end of what was just closed.
func (s *Service) tellStopped() {
	closeAll(s.stopWaiters)
	s.stopWaiters = nil
}

// classify drops what an earlier tunnel's client reports.
func (t tunnelProof) classify(s *Service) (event, bool) {
	if s.health != nil && t.tunnel == s.tunnel {
		s.health.onProof()
	}
	return 0, false
}

func (r tunnelRefusal) classify(s *Service) (event, bool) {
	if s.health != nil && r.tunnel == s.tunnel {
		s.health.onRefusal(r.refusal)
	}
	return 0, false
}

// takeRefusals takes what a tunnel said before it ended, so that the snapshot shows it rather than the end alone.
func (s *Service) takeRefusals() {
	for {
		select {
		case r := <-s.refusals:
			r.classify(s)
		default:
			return
		}
	}
}

func (p tunnelPanic) classify(s *Service) (event, bool) {
	if p.tunnel != nil && p.tunnel != s.tunnel || s.isStopped() {
		return 0, false
	}
	s.cause = p.failure
	if s.phase == phaseConnected {
		return s.lose(reasonEnded), true
	}
	s.settle()
	return eventPanicked, true
}
