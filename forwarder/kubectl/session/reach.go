package session

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/wait"
)

// reachability is what is known of whether a server can be had. It is learned from what is asked anyway; only while the server
// cannot be had it is asked for the purpose.
type reachability struct {
	mu        sync.Mutex
	err       error          // why not; nil: it can be had, or nobody knows yet
	changed   wait.Broadcast // of whether there is an err
	isProbing bool
}

// minRetryDelay is how soon a server that cannot be had is asked for again.
const minRetryDelay = 200 * time.Millisecond

// retryBackoff is the delays between asking for a server that cannot be had.
var retryBackoff = wait.Backoff{First: minRetryDelay, Max: 2 * time.Second}

// recordResult notes how an exchange with the server came out, and returns the error. What the caller itself has given up says
// nothing.
func (s *Session) recordResult(err error) error {
	_, isClassified := errors.AsType[*forwarder.Failure](err)
	if isClassified || errors.Is(err, context.Canceled) || errors.Is(err, errNoWebSocket) || s.tasks.Ended() {
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

// probeUntilReachable asks for the server until it can be had.
func (s *Session) probeUntilReachable(ctx context.Context) {
	for pause := retryBackoff; wait.Sleep(ctx, pause.Next()); {
		err := s.Probe(ctx)
		_, isClassified := errors.AsType[*forwarder.Failure](err)
		s.reachability.mu.Lock()
		if s.reachability.err == nil || isClassified {
			s.reachability.isProbing = false
			s.reachability.mu.Unlock()
			return
		}
		s.reachability.mu.Unlock()
	}
}

// StartProbe has the server asked whether it is alive, because something was not answered.
func (s *Session) StartProbe() {
	s.goTask(func(ctx context.Context) { _ = s.Probe(ctx) })
}

// Reachability is why the server cannot be had, nil if it can, and a channel that is closed when that changes.
func (s *Session) Reachability() (error, <-chan struct{}) { //nolint:revive,staticcheck // the error is what is asked for
	s.reachability.mu.Lock()
	defer s.reachability.mu.Unlock()
	return s.reachability.err, s.reachability.changed.Changed()
}
