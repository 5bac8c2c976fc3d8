package session

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// reach is what is known of whether a server can be had. It is learned from what is asked anyway; only while the server
// cannot be had it is asked for the purpose.
type reach struct {
	mu      sync.Mutex
	err     error         // why not; nil: it can be had, or nobody knows yet
	changed chan struct{} // closed when err changes
	probing bool
}

func (r *reach) init() { r.changed = make(chan struct{}) }

// The pace of asking for a server that cannot be had.
const (
	firstLook = 200 * time.Millisecond
	lastLook  = 2 * time.Second
)

// heard notes how an exchange with the server came out, and returns the error. What the caller itself has given up says
// nothing.
func (s *Session) heard(err error) error {
	_, known := errors.AsType[*forwarder.Failure](err)
	if known || errors.Is(err, context.Canceled) || errors.Is(err, errNoSocket) || s.tasks.Ended() {
		return err
	}
	r := &s.reach
	r.mu.Lock()
	defer r.mu.Unlock()
	if (r.err == nil) != (err == nil) {
		close(r.changed)
		r.changed = make(chan struct{})
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
	for pause := firstLook; ; pause = min(2*pause, lastLook) {
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
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
	return s.reach.err, s.reach.changed
}
