package session

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/wait"
)

// reach is what is known of whether a server can be had. It is learned from what is asked anyway; only while the server
// cannot be had it is asked for the purpose.
type reach struct {
	mu      sync.Mutex
	err     error          // why not; nil: it can be had, or nobody knows yet
	changed wait.Broadcast // of whether there is an err
	probing bool
}

// firstLook is how soon a server that cannot be had is asked for again.
const firstLook = 200 * time.Millisecond

// looks is the delays between asking for a server that cannot be had.
var looks = wait.Backoff{First: firstLook, Max: 2 * time.Second}

// heard notes how an exchange with the server came out, and returns the error. What the caller itself has given up says
// nothing.
func (s *Session) heard(err error) error {
	_, known := errors.AsType[*forwarder.Failure](err)
	if known || errors.Is(err, context.Canceled) || errors.Is(err, errNoSocket) || s.tasks.IsDone() {
		return err
	}
	r := &s.reach
	r.mu.Lock()
	defer r.mu.Unlock()
	if (r.err == nil) != (err == nil) {
		r.changed.Announce()
	}
	r.err = err
	if err != nil && !r.probing {
		r.probing = true
		s.goes(s.look)
	}
	return err
}

// look asks for the server until it can be had.
func (s *Session) look(ctx context.Context) {
	for pause := looks; wait.Sleep(ctx, pause.Next()); {
		err := s.Alive(ctx)
		_, known := errors.AsType[*forwarder.Failure](err)
		s.reach.mu.Lock()
		if s.reach.err == nil || known {
			s.reach.probing = false
			s.reach.mu.Unlock()
			return
		}
		s.reach.mu.Unlock()
	}
}

// Suspect has the server asked whether it is alive, because something was not answered.
func (s *Session) Suspect() {
	s.goes(func(ctx context.Context) { _ = s.Alive(ctx) })
}

// Reach is why the server cannot be had, nil if it can, and a channel that is closed when that changes.
func (s *Session) Reach() (error, <-chan struct{}) { //nolint:revive,staticcheck // the error is what is asked for
	s.reach.mu.Lock()
	defer s.reach.mu.Unlock()
	return s.reach.err, s.reach.changed.Changed()
}
