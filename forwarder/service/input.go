package service

import (
	"context"
	"errors"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// minAttemptInterval is the minimum time between two attempts that clients, or changes of what the last failure rests on, cause.
const minAttemptInterval = time.Second

// input is a message to the run loop.
type input interface {
	// apply updates the service's fields and returns the event that the input causes in the current phase; false if it causes none.
	apply(s *Service) (event, bool)
}

// nextInput waits for the next input; nil when ctx has ended. It has the loop's only select. Channels of what does not run are nil.
func (s *Service) nextInput(ctx context.Context) input {
	var openResultCh <-chan openResult
	if s.openAttempt != nil {
		openResultCh = s.openAttempt.resultCh
	}
	var dependenciesCh <-chan struct{}
	if s.phase == phaseBlocked {
		dependenciesCh = s.host.Dependencies.changed()
		if s.host.Dependencies.firstUnready(s.definition.DependsOn) != s.blockedOn {
			return dependenciesInput{} // it changed before changed() returned the channel
		}
	}
	h := s.healthChannels()
	sharedChangedCh, sharedDoneCh := s.sharedChannels()
	select {
	case <-ctx.Done():
		return nil
	case r := <-s.requestCh:
		return r
	case b := <-s.bindResultCh:
		return b
	case <-s.releaseDoneCh:
		return portReleasedInput{}
	case <-s.bindTimer.C:
		return bindDueInput{}
	case <-sharedChangedCh:
		return sharedChangedInput{}
	case <-sharedDoneCh:
		return sharedEndedInput{}
	case o := <-openResultCh:
		return o
	case <-s.closeDoneCh:
		return closeDoneInput{}
	case <-s.attemptTimer.C:
		return attemptDueInput{}
	case hasChanged := <-s.causeChangedCh:
		return causeChangedInput{hasChanged}
	case <-dependenciesCh:
		return dependenciesInput{}
	case <-s.waitingCh:
		return clientWaitingInput{}
	case <-s.networkCh:
		return networkChangeInput{}
	case <-s.shortageChangedCh:
		return shortageChangedInput{}
	case t := <-s.serverReachedCh:
		return serverReachedInput{t}
	case r := <-s.refusalCh:
		return r
	case p := <-s.panicCh:
		return p
	case <-s.lastClientCh:
		return lastClientInput{}
	case <-h.tunnelDoneCh:
		return tunnelEndInput{}
	case <-h.failureChangedCh:
		return tunnelFailureInput{}
	case <-h.checkDueCh:
		return checkDueInput{}
	case r := <-h.checkResultCh:
		return r
	case <-h.earlySuccessCh:
		return earlySuccessInput{}
	case <-h.idleTimeoutCh:
		return idleTimeoutInput{}
	case <-h.processCheckDueCh:
		return processCheckDueInput{}
	}
}

type (
	portReleasedInput    struct{}
	bindDueInput         struct{}
	closeDoneInput       struct{}
	attemptDueInput      struct{}
	causeChangedInput    struct{ hasChanged bool } // false: nothing is known to have changed
	dependenciesInput    struct{}
	clientWaitingInput   struct{}
	networkChangeInput   struct{}
	shortageChangedInput struct{}
	tunnelEndInput       struct{}
	serverReachedInput   struct{ tunnel forwarder.Tunnel }
)

// bindResult is the outcome of binding the port, or of borrowing it.
type bindResult struct {
	port        Port
	shared      SharedPort
	err         error
	targetCount int // the service's when the bind began
}

func (r bindResult) apply(s *Service) (event, bool) {
	s.bindResultCh = nil
	s.cancelBind()
	if r.shared != nil && r.targetCount != s.targetCount { // it leads where the former definition does: the holder is asked again
		r.shared.Close()
		r = bindResult{err: &PortPendingError{Project: r.shared.Status().Project}}
	}
	s.applyBindResult(r)
	isTunnelClosed := s.phase == phaseClosing && s.closeDoneCh == nil
	switch {
	case r.shared != nil && s.closeDoneCh != nil:
		return 0, false // eventShared follows when the last tunnel is closed
	case r.shared != nil:
		return eventShared, true
	case r.err != nil && isTunnelClosed:
		return eventPortLost, true
	case r.err != nil:
		return eventBindFailed, true
	case isTunnelClosed:
		return s.outcome(), true
	case s.isOnDemand():
		return eventBoundOnDemand, true
	}
	return eventBound, true
}

// apply notifies callers that wait for the port to be free. The next bind and close wait for that by themselves.
func (portReleasedInput) apply(s *Service) (event, bool) {
	s.releaseDoneCh = nil
	notifyAll(&s.releaseWaiters)
	return 0, false
}

func (bindDueInput) apply(*Service) (event, bool) { return eventBindDue, true }

func (attemptDueInput) apply(s *Service) (event, bool) {
	s.attempts.isUrgent = s.attempts.isUrgent || s.port.Stats().Waiting > 0
	return eventAttemptDue, true
}

// apply begins a new series of attempts after a change. Without one it begins a single attempt, whose state is not shown.
func (in causeChangedInput) apply(s *Service) (event, bool) {
	if in.hasChanged {
		s.attempts.failures, s.attempts.mayPassSince = 0, time.Time{}
	}
	s.attempts.isRecheck, s.attempts.changedAt = !in.hasChanged, time.Now()
	return eventCauseChanged, true
}

func (dependenciesInput) apply(s *Service) (event, bool) { return s.dependencyEvent(), true }

// dependencyEvent says whether the next attempt may begin.
func (s *Service) dependencyEvent() event {
	if s.host.Dependencies.firstUnready(s.definition.DependsOn) != (dependency{}) {
		return eventBlocked
	}
	return eventUnblocked
}

func (clientWaitingInput) apply(s *Service) (event, bool) {
	switch {
	case s.port == nil:
		return 0, false // it waited at a port that has since been closed
	case time.Since(s.attempts.startedAt) < minAttemptInterval:
		return eventClientThrottled, true
	}
	s.attempts.isUrgent = true
	return eventClientWaiting, true
}

// apply ignores the change during an attempt that has just begun or in which the user answers questions.
func (networkChangeInput) apply(s *Service) (event, bool) {
	if s.phase == phaseConnecting {
		if s.openAttempt.isInteractive || time.Since(s.attempts.startedAt) < minAttemptInterval || s.endCause != nil {
			return 0, false
		}
		s.endCause = errNetworkChanged
	}
	if s.phase == phaseBackoff || s.phase == phaseFailed {
		s.attempts.isUrgent = true
	}
	if s.phase == phaseNeedsAttention && time.Since(s.attempts.startedAt) >= minAttemptInterval {
		if failure, isFailure := s.failure(); isFailure && recheckDelay(failure) > 0 {
			return causeChangedInput{hasChanged: false}.apply(s)
		}
	}
	return eventNetworkChanged, true
}

// apply keeps a tunnel that opened before the attempt was cancelled, unless a restart was requested.
func (r openResult) apply(s *Service) (event, bool) {
	attempt, outdatedAt := s.openAttempt, s.attempts.outdatedAt
	s.openAttempt = nil
	attempt.cancel()
	failure, isFailure := errors.AsType[*forwarder.Failure](r.err)
	if isFailure && failure.Class != forwarder.Transient || r.err == nil {
		s.attempts.outdatedAt = time.Time{}
	}
	if r.err == nil {
		s.tunnel, s.removeRun = r.tunnel, r.removeRun
		if errors.Is(s.endCause, errRequested) {
			return eventTunnelLost, true
		}
		return eventOpened, true
	}
	switch {
	case s.endCause != nil:
	case isFailure && failure.Class == forwarder.NeedsUser && !outdatedAt.IsZero() && !attempt.isInteractive:
		s.endCause, s.attempts.requestedAt = errRequested, outdatedAt
	default:
		s.endCause = r.err
		if attempt.needsUser {
			s.endCause = requireUserAgain(r.err)
		}
	}
	s.publishEnd()
	return s.outcome(), true
}

func (tunnelEndInput) apply(s *Service) (event, bool) {
	s.handleQueuedRefusals()
	s.endCause = s.tunnel.Err()
	if s.endCause == nil {
		s.endCause = &forwarder.Failure{Reason: "the tunnel ended"}
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

func (closeDoneInput) apply(s *Service) (event, bool) {
	s.closeDoneCh = nil
	if s.phase == phaseStopping {
		return eventClosed, true // its action notifies the callers of Stop, after publishing
	}
	notifyAll(&s.stopWaiters)
	switch {
	case s.port != nil:
		return s.outcome(), true
	case s.shared != nil && s.bindResultCh == nil:
		return eventShared, true
	case s.bindResultCh != nil: // decided by the bind result
		return 0, false
	}
	return eventPortLost, true
}

// apply ignores reports about an earlier tunnel.
func (in serverReachedInput) apply(s *Service) (event, bool) {
	if s.health != nil && in.tunnel == s.tunnel {
		s.health.onServerReached()
	}
	return 0, false
}

func (r tunnelRefusal) apply(s *Service) (event, bool) {
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
			r.apply(s)
		default:
			return
		}
	}
}

func (p tunnelPanic) apply(s *Service) (event, bool) {
	if p.tunnel != nil && p.tunnel != s.tunnel || s.isStopped() {
		return 0, false
	}
	s.endCause = p.failure
	if s.phase == phaseConnected {
		return s.loseTunnel(restartReasonEnded), true
	}
	s.publishEnd()
	return eventPanicked, true
}
