package session

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/kubeconfig"
	"github.com/localport-sh/localport/forwarder/wait"
)

// reachability is whether the server can be reached, as learned from the results of requests. Only while the server is unreachable,
// it is probed.
type reachability struct {
	mu        sync.Mutex
	err       error          // why it is unreachable; nil: it is reachable, or this is unknown
	changed   wait.Broadcast // announced when err becomes nil or non-nil
	isProbing bool
}

// minRetryDelay is the first delay before a request is retried.
const minRetryDelay = 200 * time.Millisecond

// retryBackoff is the delays between retries while the server is unreachable.
var retryBackoff = wait.Backoff{First: minRetryDelay, Max: 2 * time.Second}

// recordResult records the result of a request for Reachability, and returns err. A request that the caller canceled says nothing
// about the server.
func (s *Session) recordResult(err error) error {
	if isAboutLogin(err) || errors.Is(err, context.Canceled) || errors.Is(err, errNoWebSocket) || s.tasks.IsDone() {
		return err
	}
	r := &s.reachability
	r.mu.Lock()
	defer r.mu.Unlock()
	if (r.err == nil) != (err == nil) {
		r.changed.Announce()
	}
	r.err = err
	if err != nil && !r.isProbing {
		r.isProbing = true
		s.goTask(s.probeUntilReachable)
	}
	return err
}

// isAboutLogin reports whether an error says that there is no credential: the server was not asked.
func isAboutLogin(err error) bool {
	_, isFailure := errors.AsType[*forwarder.Failure](err)
	_, isLogin := errors.AsType[*kubeconfig.LoginError](err)
	return isFailure || isLogin
}

// probeUntilReachable probes the server until it is reachable, or needs attention.
func (s *Session) probeUntilReachable(ctx context.Context) {
	for backoff := retryBackoff; wait.Sleep(ctx, backoff.Next()); {
		err := s.Probe(ctx)
		s.reachability.mu.Lock()
		if s.reachability.err == nil || isAboutLogin(err) {
			s.reachability.isProbing = false
			s.reachability.mu.Unlock()
			return
		}
		s.reachability.mu.Unlock()
	}
}

// UnreachableFailure is why no request can succeed: the login failed, or the server is unreachable. Nil: neither is known. A login that
// failed is named first, because the server is not asked without one.
func (s *Session) UnreachableFailure(ref ResourceRef) *forwarder.Failure {
	err, _ := s.Reachability()
	if err == nil {
		return nil
	}
	if failure := s.auth.currentFailure(); failure != nil {
		return failure
	}
	return s.ClassifyError(err, ref)
}

// StartProbe probes the server in the background, because something got no response.
func (s *Session) StartProbe() {
	s.goTask(func(ctx context.Context) { _ = s.Probe(ctx) })
}

// Reachability returns why the server is unreachable, nil if it is reachable, and a channel that is closed when that changes.
func (s *Session) Reachability() (error, <-chan struct{}) { //nolint:revive,staticcheck // the error is the state, not a failure of the call
	s.reachability.mu.Lock()
	defer s.reachability.mu.Unlock()
	return s.reachability.err, s.reachability.changed.Changed()
}
