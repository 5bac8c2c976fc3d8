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
func (o *openAttempt) abort() {
	o.cancel()
	if r := <-o.resultCh; r.err == nil {
		_ = r.tunnel.Close()
		r.removeRun()
	}
}

// open starts an attempt.
func (s *Service) open(ctx context.Context) {
	a := &s.attempts
	a.startedAt = time.Now()
	a.opened++
	if s.blockedOn != (dependency{}) {
		s.blockedOn, s.isDependencyNotified = dependency{}, false
		s.port.Hold()
		s.setStateAndError(s.attemptState(), "", "")
	}
	s.cause = nil
	timeout := openTimeout
	if a.askSocket != "" {
		timeout = loginTimeout
	}
	o := &openAttempt{resultCh: make(chan openResult, 1), isInteractive: a.askSocket != "", needsUser: a.needsUser}
	s.openAttempt = o
	run, removeRun, err := s.host.NewRun(s.processLog)
	run.RequestedAt, run.IsUrgent, run.AskSocket = a.requestedAt, a.isUrgent, a.askSocket
	a.askSocket, a.needsUser, a.isUrgent = "", false, false
	s.countAttempt(run.ID)
	s.setState(s.attemptState())
	ctx, o.cancel = context.WithTimeout(ctx, timeout)
	if err != nil {
		o.resultCh <- openResult{err: &forwarder.Failure{Reason: err.Error()}}
		return
	}
	definition := s.definition
	s.runJob(func() {
		forwarder.CatchPanic(func() {
			tunnel, err := definition.Driver.Open(ctx, definition.Service, run)
			if err != nil {
				removeRun()
				err = explainTimeout(ctx, err, timeout)
			}
			o.resultCh <- openResult{tunnel, removeRun, err}
		}, func(failure *forwarder.Failure, stack []byte) {
			s.logPanic(failure, stack)
			removeRun()
			o.resultCh <- openResult{err: failure}
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
	if s.attempts.opened > 1 {
		s.status.restarts = s.attempts.opened - 1
	}
	if s.status.state == forwarder.Restarting {
		return forwarder.Restarting
	}
	return forwarder.Starting
}

// countAttempt counts an attempt as a restart, unless it is the first.
func (s *Service) countAttempt(run string) {
	s.status.run = run
	if s.attempts.restartReason != "" {
		s.counters.countRestart(s.attempts.restartReason)
	}
	s.attempts.restartReason = restartReasonNotOpened // unless it opens
}
