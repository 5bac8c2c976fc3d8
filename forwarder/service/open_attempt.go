package service

import (
	"context"
	"errors"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// openAttempt is an attempt to open a tunnel.
type openAttempt struct {
	cancel        context.CancelFunc
	resultCh      chan openResult // receives one result
	isInteractive bool            // the user answers questions
	needsUser     bool            // a retry without the user cannot succeed
}

// openResult is the outcome of an attempt. After an error nothing of it is left.
type openResult struct {
	tunnel    forwarder.Tunnel
	removeRun func()
	err       error
}

// abort cancels an attempt and returns when nothing of it is left.
func (a *openAttempt) abort() {
	a.cancel()
	if r := <-a.resultCh; r.err == nil {
		_ = r.tunnel.Close()
		r.removeRun()
	}
}

// open starts an attempt.
func (s *Service) open(ctx context.Context) {
	a := &s.attempts
	a.startedAt = time.Now()
	isRecheck := a.isRecheck
	if a.isRecheck = false; !isRecheck {
		a.count++
	}
	if s.blockedOn != (dependency{}) {
		s.blockedOn, s.isDependencyNotified = dependency{}, false
		s.port.Hold()
		s.setStateAndError(s.attemptState(), "", "")
	}
	s.endCause = nil
	timeout := openTimeout
	if a.askSocket != "" {
		timeout = loginTimeout
	}
	attempt := &openAttempt{resultCh: make(chan openResult, 1), isInteractive: a.askSocket != "", needsUser: a.needsUser}
	s.openAttempt = attempt
	run, removeRun, err := s.host.NewRun(ctx, s.processLog)
	run.RequestedAt, run.ChangedAt, run.RestartedAt, run.IsUrgent, run.AskSocket = a.requestedAt, a.changedAt, a.restartedAt, a.isUrgent, a.askSocket
	run.OnProgress = func(text string) { s.setProgress(attempt, text) }
	a.askSocket, a.needsUser, a.isUrgent = "", false, false
	s.status.run = run.ID
	if a.restartReason != "" && !isRecheck { // else it is the first attempt, not a restart
		s.counters.countRestart(a.restartReason)
	}
	a.restartReason = restartReasonNotOpened // unless it opens
	if !isRecheck {
		s.setState(s.attemptState())
	}
	ctx, attempt.cancel = context.WithTimeout(ctx, timeout)
	if err != nil {
		attempt.resultCh <- openResult{err: &forwarder.Failure{Reason: err.Error()}}
		return
	}
	definition := s.definition
	s.progress.start(attempt)
	s.jobs.Go(func() {
		forwarder.CatchPanic(func() {
			tunnel, err := definition.Driver.Open(ctx, definition.Service, run)
			s.endProgress(attempt)
			if err != nil {
				removeRun()
				err = explainTimeout(ctx, err, timeout)
			}
			attempt.resultCh <- openResult{tunnel, removeRun, err}
		}, func(failure *forwarder.Failure, stack []byte) {
			s.logPanic(failure, stack)
			s.endProgress(attempt)
			removeRun()
			attempt.resultCh <- openResult{err: failure}
		})
	})
}

// explainTimeout replaces a timeout error, unless it is a Failure that explains more.
func explainTimeout(ctx context.Context, err error, timeout time.Duration) error {
	_, explained := errors.AsType[*forwarder.Failure](err)
	if !explained && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &forwarder.Failure{Reason: "the tunnel was not ready after " + timeout.String()}
	}
	return err
}

// attemptState is the state during an attempt: starting for the first tunnel, restarting for the others.
func (s *Service) attemptState() forwarder.State {
	if s.attempts.count > 1 {
		s.status.restarts = s.attempts.count - 1
	}
	if s.status.state == forwarder.Restarting {
		return forwarder.Restarting
	}
	return forwarder.Starting
}
