package service

import (
	"context"
	"errors"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/wait"
)

// bindInterval is the time between attempts to bind a port that is in use.
const bindInterval = time.Second

// openTimeout bounds an attempt. It is longer than the timeouts of ssh and kubectl, whose errors say more.
const openTimeout = 35 * time.Second

// loginTimeout bounds an attempt in which a person answers questions.
const loginTimeout = 3 * time.Minute

// perform carries out one action. It never waits for a process or the network: that is done in jobs.
func (s *Service) perform(ctx context.Context, a action) {
	switch a {
	case actionBind:
		s.bind(ctx)
	case actionScheduleBind:
		interval := bindInterval
		if s.isBindPending {
			interval = pendingBindInterval
		}
		s.bindTimer.Reset(interval)
	case actionShowShared:
		s.publishShared()
	case actionReturnShared:
		s.returnShared()
	case actionReleasePort:
		s.releasePort()
	case actionCheckDependencies:
		s.step(ctx, s.dependencyEvent())
	case actionShowBlocked:
		if !s.showBlocked() {
			s.step(ctx, eventUnblocked)
		}
	case actionStartDependency:
		s.host.Dependencies.notifyClientWaiting(s.blockedOn.name)
		s.isDependencyNotified = true
	case actionOpen:
		s.open(ctx)
	case actionCancelOpen:
		s.openAttempt.cancel()
	case actionAttach:
		s.attach(ctx)
	case actionDetach:
		s.detach(s.port)
	case actionCloseTunnel, actionCloseAll:
		s.close(a == actionCloseAll)
	case actionApplyDefinition:
		s.health.onRedefine()
	case actionRecheck:
		s.recheck()
	case actionHold:
		s.port.Hold()
	case actionReject:
		s.port.Reject()
	case actionDropWaiting:
		s.port.DropWaiting()
	case actionScheduleAttempt:
		s.attemptTimer.Reset(retryDelay(s.definition.RestartPolicy, s.attempts.failures))
	case actionScheduleThrottled:
		s.attemptTimer.Reset(minAttemptInterval - time.Since(s.attempts.startedAt))
	case actionServeWaiting: // one may have begun to wait while the last tunnel was being closed
		if s.port.Stats().Waiting > 0 {
			wait.Notify(s.waitingCh)
		}
	case actionAwaitChange:
		s.awaitChange(ctx)
	case actionFinish:
		_ = s.processLog.Close()
		s.publish(func(st *status) { st.isEnding = false })
		notifyAll(&s.stopWaiters)
	}
}

// bind starts to bind the port, unless that is running already. It waits for the release of the last port.
func (s *Service) bind(ctx context.Context) {
	if s.bindResultCh != nil {
		return
	}
	bindResultCh, releaseDoneCh := make(chan bindResult, 1), s.releaseDoneCh
	s.bindResultCh = bindResultCh
	ctx, s.cancelBind = context.WithCancel(ctx)
	definition, requestedAt, options, targetCount := s.definition, s.attempts.requestedAt, s.relayOptions(), s.targetCount
	s.jobs.Go(func() {
		receiveAll(releaseDoneCh)
		forwarder.CatchPanic(func() {
			r := s.host.getPort(ctx, definition, requestedAt, options)
			r.targetCount = targetCount
			bindResultCh <- r
		}, func(failure *forwarder.Failure, stack []byte) {
			s.logPanic(failure, stack)
			bindResultCh <- bindResult{err: failure}
		})
	})
}

// applyBindResult publishes the outcome of a bind. The first error is shown until a bind succeeds, a request asks for another, or a project that
// could not be asked has answered.
func (s *Service) applyBindResult(r bindResult) {
	defer notifyAll(&s.bindWaiters)
	wasShared, wasPending, wasErrorShown := s.shared != nil, s.isBindPending, s.isBindErrorShown
	pending, isPending := errors.AsType[*PortPendingError](r.err)
	s.port, s.isBindPending, s.isBindErrorShown = r.port, isPending, r.err != nil
	s.configurePort()
	if !isPending { // else the last holder is probably being replaced: the variables stay
		s.returnShared()
		s.shared = r.shared
	}
	switch {
	case r.shared != nil:
		s.publishShared()
	case r.err == nil && !wasErrorShown && !wasShared:
		s.publish(func(*status) {})
	case r.err == nil:
		s.setStateAndError(s.firstState(), "", "")
	case isPending:
		s.setStateAndError(s.attemptState(), pending.Error(), "")
	case !wasErrorShown || wasPending || len(s.bindWaiters) > 0:
		reason, hint := s.host.ExplainPort(r.err, s.definition.Service)
		s.setStateAndError(forwarder.Failed, reason, hint)
	}
	if r.err == nil && wasErrorShown {
		s.host.OnPortOpened()
	}
}

// notifyAll closes the channels of waiting callers and removes them.
func notifyAll(waiters *[]chan<- struct{}) {
	for _, waiter := range *waiters {
		close(waiter)
	}
	*waiters = nil
}

// receiveAll receives from each channel that is not nil.
func receiveAll(channels ...<-chan struct{}) {
	for _, ch := range channels {
		if ch != nil {
			<-ch
		}
	}
}

// releasePort publishes that the service is stopped, and then starts to close its port or the one that is being bound. The keeper may
// take seconds to close its copies.
func (s *Service) releasePort() {
	port, bindResultCh, previousReleaseCh := s.port, s.bindResultCh, s.releaseDoneCh
	s.returnShared()
	s.port, s.isBindErrorShown, s.isBindPending, s.bindResultCh = nil, false, false, nil
	s.publish(func(st *status) {
		st.state, st.lastError, st.hint, st.upSince, st.isEnding = forwarder.Stopped, "", "", time.Time{}, true
	})
	notifyAll(&s.bindWaiters)
	if port == nil && bindResultCh == nil {
		return
	}
	s.releasedPort = port
	releaseDoneCh := make(chan struct{})
	s.releaseDoneCh = releaseDoneCh
	if bindResultCh != nil {
		s.cancelBind()
	}
	s.jobs.Go(func() {
		defer close(releaseDoneCh)
		receiveAll(previousReleaseCh)
		forwarder.CatchPanic(func() {
			if port != nil {
				port.Release()
			}
			if bindResultCh == nil {
				return
			}
			b := <-bindResultCh
			if b.shared != nil {
				b.shared.Close()
			}
			if b.port != nil {
				b.port.Release() // the keeper must not keep copies
				_ = b.port.Close()
			}
		}, s.logPanic)
	})
}

// attach attaches the tunnel to the port and starts its health checks.
func (s *Service) attach(ctx context.Context) {
	s.endCause = nil
	s.connectedAt = time.Now()
	s.attempts.mayPassSince = time.Time{}
	s.attempts.restartReason = restartReasonEnded
	target := s.definition.target() // kubectl knows its context and namespace only after opening
	s.publish(func(st *status) { st.upSince, st.target, st.failures = s.connectedAt, target, 0 })
	s.port.Attach(s.tunnel)
	s.health = newHealthMonitor(ctx, s)
	s.health.showInitialState()
}

// detach stops the checks and detaches the tunnel: clients wait.
func (s *Service) detach(port Port) {
	if s.health == nil {
		return
	}
	s.health.stop()
	port.Detach(s.tunnel)
}

// recheck checks the tunnel and the service, after the network has changed.
func (s *Service) recheck() {
	if checker, ok := s.tunnel.(forwarder.ConnectionChecker); ok {
		checker.CheckConnection()
	}
	s.health.checkNow()
}

// close starts to close the attempt and the tunnel with its checks, and if all is set also the port's connections. It first waits for
// the previous close and, if all is set, for closeAfter.
func (s *Service) close(all bool) {
	if all {
		s.detach(s.releasedPort)
	}
	doneCh, previousCh := make(chan struct{}), s.closeDoneCh
	attempt, tunnel, health, removeRun := s.openAttempt, s.tunnel, s.health, s.removeRun
	var port Port
	var releaseDoneCh <-chan struct{}
	var closeAfter []<-chan struct{}
	if all {
		port, releaseDoneCh, closeAfter = s.releasedPort, s.releaseDoneCh, s.closeAfter
		s.releasedPort, s.closeAfter = nil, nil
	}
	s.openAttempt, s.tunnel, s.health, s.removeRun, s.closeDoneCh = nil, nil, nil, nil, doneCh
	s.jobs.Go(func() {
		defer close(doneCh)
		receiveAll(closeAfter...)
		receiveAll(previousCh)
		if attempt != nil {
			attempt.abort()
		}
		if health != nil {
			health.waitForCheck()
		}
		if tunnel != nil {
			forwarder.CatchPanic(func() { _ = tunnel.Close() }, s.logPanic)
		}
		receiveAll(releaseDoneCh)
		if port != nil {
			_ = port.Close()
		}
		if removeRun != nil {
			removeRun()
		}
	})
}

// awaitChange starts to wait until what the last failure rests on has changed or, unless the next attempt has a time already, until it may
// have changed.
func (s *Service) awaitChange(ctx context.Context) {
	failure, isFailure := s.failure()
	if !isFailure {
		return
	}
	recheck := recheckDelay(failure)
	if s.phase == phaseBackoff {
		recheck = 0
	}
	if failure.AwaitChange == nil && recheck == 0 {
		return
	}
	ctx, s.endAwaitChange = context.WithCancel(ctx)
	changedCh, startedAt := make(chan bool, 1), s.attempts.startedAt
	s.causeChangedCh = changedCh
	s.jobs.Go(func() {
		forwarder.CatchPanic(func() {
			// What the failure rests on may change all the time, or the next attempt may have the failure of the last one.
			if hasChanged := awaitChange(ctx, failure, recheck); wait.Sleep(ctx, minAttemptInterval-time.Since(startedAt)) {
				changedCh <- hasChanged
			}
		}, s.logPanic)
	})
}

// awaitChange waits until what a failure rests on has changed, or the recheck, if it is not zero, is due or ctx ends; it returns false for
// these.
func awaitChange(ctx context.Context, failure *forwarder.Failure, recheck time.Duration) bool {
	waitCtx := ctx
	if recheck > 0 {
		var cancel context.CancelFunc
		waitCtx, cancel = context.WithTimeout(ctx, recheck)
		defer cancel()
	}
	if failure.AwaitChange == nil {
		<-waitCtx.Done()
		return false
	}
	return failure.AwaitChange(waitCtx)
}

// recheckDelay is the time to the next attempt after a failure, if nothing is known to change meanwhile; zero: no attempt is made.
func recheckDelay(failure *forwarder.Failure) time.Duration {
	if failure.MayPass && failure.RecheckAfter == 0 {
		return passRetryInterval
	}
	return failure.RecheckAfter
}

// stopAwaitingChange ends the wait of awaitChange.
func (s *Service) stopAwaitingChange() {
	if s.endAwaitChange != nil {
		s.endAwaitChange()
	}
	s.causeChangedCh, s.endAwaitChange = nil, nil
}

// requireUserAgain turns a transient failure of a login into one that needs attention: a retry could not ask the user.
func requireUserAgain(err error) error {
	failure, ok := errors.AsType[*forwarder.Failure](err)
	if !ok || failure.Class != forwarder.Transient {
		return err
	}
	hint := failure.Hint
	if hint == "" {
		hint = "when that is over: localport login"
	}
	needsUser := *failure
	needsUser.Class, needsUser.Hint = forwarder.NeedsUser, hint
	return &needsUser
}
