package service

import (
	"context"
	"errors"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// minAttemptInterval is the minimum time between two attempts that clients cause.
const minAttemptInterval = time.Second

// input is a message to the run loop. classify updates the service's fields and returns the event that the input is in the current
// phase; false if it is none.
type input interface {
	classify(s *Service) (event, bool)
}

// nextInput waits for the next input; nil when ctx has ended. It has the loop's only select. Channels of what does not run are nil.
func (s *Service) nextInput(ctx context.Context) input {
	var opened <-chan openResult
	if s.openAttempt != nil {
		opened = s.openAttempt.resultCh
	}
	var dependencies <-chan struct{}
	if s.phase == phaseBlocked {
		dependencies = s.host.Dependencies.changed()
		if s.host.Dependencies.firstUnready(s.definition.DependsOn) != s.blockedOn {
			return dependenciesChanged{} // it changed before changed() returned the channel
		}
	}
	h := s.healthChannels()
	select {
	case <-ctx.Done():
		return nil
	case r := <-s.requestCh:
		return r
	case b := <-s.bindResultCh:
		return b
	case <-s.releaseDoneCh:
		return portReleased{}
	case <-s.bindTimer.C:
		return bindDue{}
	case o := <-opened:
		return o
	case <-s.closeDoneCh:
		return closeDone{}
	case <-s.attemptTimer.C:
		return attemptDue{}
	case <-dependencies:
		return dependenciesChanged{}
	case <-s.waitingCh:
		return clientWaiting{}
	case <-s.networkCh:
		return networkChanged{}
	case <-s.shortageChangedCh:
		return shortageChanged{}
	case t := <-s.serverReachedCh:
		return serverReached{t}
	case r := <-s.refusalCh:
		return r
	case p := <-s.panicCh:
		return p
	case <-s.lastClientCh:
		return lastClientLeft{}
	case <-h.tunnelDone:
		return tunnelEnded{}
	case <-h.tunnelChanged:
		return tunnelChanged{}
	case <-h.checkDue:
		return checkDue{}
	case r := <-h.checkResult:
		return r
	case <-h.idleTimeout:
		return idleTimeout{}
	case <-h.processCheck:
		return processCheckDue{}
	}
}

type (
	portReleased        struct{}
	bindDue             struct{}
	closeDone           struct{}
	attemptDue          struct{}
	dependenciesChanged struct{}
	clientWaiting       struct{}
	networkChanged      struct{}
	shortageChanged     struct{}
	tunnelEnded         struct{}
	serverReached       struct{ tunnel forwarder.Tunnel }
)

// bindResult is the outcome of binding the port.
type bindResult struct {
	port Port
	err  error
}

func (b bindResult) classify(s *Service) (event, bool) {
	s.bindResultCh = nil
	s.cancelBind()
	s.applyBindResult(b)
	isTunnelClosed := s.phase == phaseClosing && s.closeDoneCh == nil
	switch {
	case b.err != nil && isTunnelClosed:
		return eventPortLost, true
	case b.err != nil:
		return eventBindFailed, true
	case isTunnelClosed:
		return s.outcome(), true
	case s.definition.OnDemand:
		return eventBoundOnDemand, true
	}
	return eventBound, true
}

// classify notifies callers that wait for the port to be free. The next bind and close wait for that by themselves.
func (portReleased) classify(s *Service) (event, bool) {
	s.releaseDoneCh = nil
	notifyAll(s.releaseWaiters)
	s.releaseWaiters = nil
	return 0, false
}

func (bindDue) classify(*Service) (event, bool) { return eventBindDue, true }

func (attemptDue) classify(s *Service) (event, bool) {
	s.attempts.isUrgent = s.attempts.isUrgent || s.port.Stats().Waiting > 0
	return eventAttemptDue, true
}

func (dependenciesChanged) classify(s *Service) (event, bool) { return s.dependencyEvent(), true }

// dependencyEvent says whether the next attempt may begin.
func (s *Service) dependencyEvent() event {
	if s.host.Dependencies.firstUnready(s.definition.DependsOn) != (dependency{}) {
		return eventBlocked
	}
	return eventUnblocked
}

func (clientWaiting) classify(s *Service) (event, bool) {
	switch {
	case s.port == nil:
		return 0, false // it waited at a port that has since been closed
	case time.Since(s.attempts.startedAt) < minAttemptInterval:
		return eventClientThrottled, true
	}
	s.attempts.isUrgent = true
	return eventClientWaiting, true
}

// classify ignores the change during an attempt that has just begun or in which the user answers questions.
func (networkChanged) classify(s *Service) (event, bool) {
	if s.phase == phaseConnecting {
		if s.openAttempt.isInteractive || time.Since(s.attempts.startedAt) < minAttemptInterval || s.cause != nil {
			return 0, false
		}
		s.cause = errNetworkChanged
	}
	if s.phase == phaseBackoff || s.phase == phaseFailed {
		s.attempts.isUrgent = true
	}
	return eventNetworkChanged, true
}

// classify keeps a tunnel that opened before the attempt was cancelled, unless a restart was requested.
func (o openResult) classify(s *Service) (event, bool) {
	attempt := s.openAttempt
	s.openAttempt = nil
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
		if attempt.needsUser {
			s.cause = requireUserAgain(o.err)
		}
	}
	s.publishEnd()
	return s.outcome(), true
}

func (tunnelEnded) classify(s *Service) (event, bool) {
	s.handleQueuedRefusals()
	s.cause = s.tunnel.Err()
	if s.cause == nil {
		s.cause = &forwarder.Failure{Reason: "the tunnel ended"}
	}
	return s.loseTunnel(restartReasonEnded), true
}

// loseTunnel records the restart reason and publishes the end of the tunnel. s.cause must be set.
func (s *Service) loseTunnel(reason string) event {
	s.attempts.restartReason = reason
	if time.Since(s.connectedAt) >= stableTime {
		s.attempts.failures = 0
	}
	s.publishEnd()
	return eventTunnelLost
}

func (closeDone) classify(s *Service) (event, bool) {
	s.closeDoneCh = nil
	if s.phase == phaseStopping {
		return eventClosed, true // its action notifies the callers of Stop, after publishing
	}
	s.notifyStopWaiters()
	switch {
	case s.port != nil:
		return s.outcome(), true
	case s.bindResultCh != nil: // decided by the bind result
		return 0, false
	}
	return eventPortLost, true
}

// notifyStopWaiters notifies the callers of Stop that nothing runs any more.
func (s *Service) notifyStopWaiters() {
	notifyAll(s.stopWaiters)
	s.stopWaiters = nil
}

// classify ignores reports about an earlier tunnel.
func (t serverReached) classify(s *Service) (event, bool) {
	if s.health != nil && t.tunnel == s.tunnel {
		s.health.onServerReached()
	}
	return 0, false
}

func (r tunnelRefusal) classify(s *Service) (event, bool) {
	if s.health != nil && r.tunnel == s.tunnel {
		s.health.onRefusal(r.refusal)
	}
	return 0, false
}

// handleQueuedRefusals handles what a tunnel reported before it ended, so that the snapshot shows that too.
func (s *Service) handleQueuedRefusals() {
	for {
		select {
		case r := <-s.refusalCh:
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
		return s.loseTunnel(restartReasonEnded), true
	}
	s.publishEnd()
	return eventPanicked, true
}
