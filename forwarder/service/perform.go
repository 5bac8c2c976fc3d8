package service

import (
	"context"
	"errors"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/wait"
)

// bindInterval is how often a port that something else has is tried again.
const bindInterval = time.Second

// openTimeout bounds the opening of a tunnel: longer than ssh's and kubectl's own limits, so that their reasons come first.
const openTimeout = 35 * time.Second

// loginTimeout bounds an opening that is a login: a person has to find a token, or to read a fingerprint.
const loginTimeout = 3 * time.Minute

// perform carries out one action. None waits for a process or for the network: what may is a job.
func (s *Service) perform(ctx context.Context, a action) {
	switch a {
	case actionBind:
		s.bind(ctx)
	case actionScheduleBind:
		s.bindTimer.Reset(bindInterval)
	case actionReleasePort:
		s.releasePort()
	case actionCheckDependencies:
		s.step(ctx, s.dependencyEvent())
	case actionShowBlocked:
		if !s.showBlocked() {
			s.step(ctx, eventUnblocked)
		}
	case actionStartDependency:
		s.host.Dependencies.start(s.blockedOn.name)
		s.dependencyAsked = true
	case actionOpen:
		s.open(ctx)
	case actionCancelOpen:
		s.opening.cancel()
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
	case actionScheduleEarly:
		s.attemptTimer.Reset(attemptPace - time.Since(s.attempts.startedAt))
	case actionServeWaiting: // a client may have begun to wait while the last tunnel was being closed
		if s.port.Stats().Waiting > 0 {
			wait.Notify(s.waiting)
		}
	case actionFinish:
		_ = s.lines.Close()
		s.publish(func(st *status) { st.ending = false })
		s.tellStopped()
	}
}

// bind starts to get the port, unless that is under way. A port that was released is free before.
func (s *Service) bind(ctx context.Context) {
	if s.binding != nil {
		return
	}
	binding, releasing := make(chan bindResult, 1), s.releasing
	s.binding = binding
	ctx, s.cancelBind = context.WithCancel(ctx)
	definition, options := s.definition.Service, s.relayOptions()
	s.job(func() {
		if releasing != nil {
			<-releasing
		}
		forwarder.Contain(func() {
			port, err := s.host.OpenPort(ctx, definition, options)
			binding <- bindResult{port, err}
		}, func(failure *forwarder.Failure, stack []byte) {
			s.logPanic(failure, stack)
			binding <- bindResult{nil, failure}
		})
	})
}

// takePort takes over how binding went. Why it failed first is shown until it succeeds, or until a person asks again.
func (s *Service) takePort(b bindResult) {
	s.port = b.port
	waiters := s.bindWaiters
	s.bindWaiters = nil
	defer closeAll(waiters)
	switch {
	case b.err == nil && !s.portFailed:
		s.publish(func(*status) {})
	case b.err == nil:
		s.portFailed = false
		s.setTrouble(s.firstState(), "", "")
		s.host.OnPortOpened()
	case !s.portFailed || len(waiters) > 0:
		s.portFailed = true
		reason, hint := s.host.ExplainPort(b.err, s.definition.Service)
		s.setTrouble(forwarder.Failed, reason, hint)
	}
}

func closeAll(waiters []chan<- struct{}) {
	for _, waiter := range waiters {
		close(waiter)
	}
}

// releasePort publishes that the service is stopped, and then has its port closed, or the one that is just being bound. Whoever
// has a copy of the listeners may take seconds to close it.
func (s *Service) releasePort() {
	port, binding, before := s.port, s.binding, s.releasing
	s.port, s.portFailed, s.binding = nil, false, nil
	s.publish(func(st *status) {
		st.state, st.lastError, st.hint, st.upSince, st.ending = forwarder.Stopped, "", "", time.Time{}, true
	})
	closeAll(s.bindWaiters)
	s.bindWaiters = nil
	if port == nil && binding == nil {
		return
	}
	s.released = port
	releasing := make(chan struct{})
	s.releasing = releasing
	if binding != nil {
		s.cancelBind()
	}
	s.job(func() {
		defer close(releasing)
		if before != nil {
			<-before
		}
		forwarder.Contain(func() {
			if port != nil {
				port.Release()
			}
			if binding == nil {
				return
			}
			if b := <-binding; b.port != nil {
				b.port.Release() // no copy of it may stay
				_ = b.port.Close()
			}
		}, s.logPanic)
	})
}

// attach sends clients through the tunnel and begins to check its health.
func (s *Service) attach(ctx context.Context) {
	s.cause = nil
	s.connectedAt = time.Now()
	s.attempts.reason = reasonEnded
	target := s.definition.Driver.Target(s.definition.Service) // kubectl knows its context and namespace only now
	s.publish(func(st *status) { st.upSince, st.target = s.connectedAt, target })
	s.port.Attach(s.tunnel)
	s.health = newHealth(ctx, s)
	s.health.begin()
}

// detach stops the checks and lets clients of the port wait.
func (s *Service) detach(port Port) {
	if s.health == nil {
		return
	}
	s.health.stop()
	port.Detach(s.tunnel)
}

// recheck asks whether the tunnel leads anywhere still, after the network has changed.
func (s *Service) recheck() {
	if doubter, ok := s.tunnel.(forwarder.Doubter); ok {
		doubter.Doubt()
	}
	s.health.checkSoon()
}

// close has everything closed that runs: the attempt, the tunnel with its checks, and with all also the port's connections and
// the log. What must end before is waited for first.
func (s *Service) close(all bool) {
	if all {
		s.detach(s.released)
	}
	closing, before := make(chan struct{}), s.closing
	opening, tunnel, check, removeRun := s.opening, s.tunnel, s.health, s.removeRun
	var port Port
	var releasing <-chan struct{}
	var after []<-chan struct{}
	if all {
		port, releasing, after = s.released, s.releasing, s.stopAfter
		s.released, s.stopAfter = nil, nil
	}
	s.opening, s.tunnel, s.health, s.removeRun, s.closing = nil, nil, nil, nil, closing
	s.job(func() {
		defer close(closing)
		for _, ended := range after {
			<-ended
		}
		if before != nil {
			<-before
		}
		if opening != nil {
			opening.abort()
		}
		if check != nil {
			check.wait()
		}
		if tunnel != nil {
			forwarder.Contain(func() { _ = tunnel.Close() }, s.logPanic)
		}
		if releasing != nil {
			<-releasing
		}
		if port != nil {
			_ = port.Close()
		}
		if removeRun != nil {
			removeRun()
		}
	})
}

// needUserAgain is why a login failed: whatever it was, the next attempt needs the user again.
func needUserAgain(err error) error {
	failure, ok := errors.AsType[*forwarder.Failure](err)
	if !ok || failure.Class != forwarder.Transient {
		return err
	}
	hint := failure.Hint
	if hint == "" {
		hint = "when that is over: localport login"
	}
	return &forwarder.Failure{Class: forwarder.ByAttention, Reason: failure.Reason, Hint: hint}
}
