package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/relay"
)

// SharedPort is a service's port that another project has, and shares: its tunnel leads to the same target. It is safe for concurrent use.
type SharedPort interface {
	// Status is the service's status at the holder. It never waits.
	Status() SharedStatus
	// Changed receives a signal when Status may have changed.
	Changed() <-chan struct{}
	// Done is closed when the holder no longer shares the port. It may have handed over its listeners, which OpenPort returns then.
	Done() <-chan struct{}
	// Close gives the port back, without waiting for the holder. It may be called more than once.
	Close()
}

// SharedStatus is the status of a service at the project that has its port.
type SharedStatus struct {
	Project   string // the holder's root
	Service   string // its name there
	State     forwarder.State
	LastError string
	Hint      string
	Target    string
	UpSince   time.Time
	CheckedAt time.Time
	Latency   time.Duration
}

// ErrPortFreed is BorrowPort's error if another project has closed the port: it can be bound now.
var ErrPortFreed = errors.New("another project has closed the port")

// PortPendingError is BorrowPort's error if a project has the port that cannot be asked yet, because it is just starting.
type PortPendingError struct{ Project string }

func (e *PortPendingError) Error() string {
	return fmt.Sprintf("waiting for the project %s, which has the port", e.Project)
}

// pendingBindInterval is the time between attempts to get a port from a project that cannot be asked yet.
const pendingBindInterval = 100 * time.Millisecond

// getPort binds the port or, if another project has it, borrows it.
func (h *Host) getPort(ctx context.Context, definition Definition, requestedAt time.Time, options relay.Options) bindResult {
	port, err := h.OpenPort(ctx, definition.Service, options)
	if err == nil || h.BorrowPort == nil || definition.Reverse {
		return bindResult{port: port, err: err}
	}
	shared, err := h.BorrowPort(ctx, definition, requestedAt, err)
	if errors.Is(err, ErrPortFreed) {
		port, err = h.OpenPort(ctx, definition.Service, options)
	}
	return bindResult{port: port, shared: shared, err: err}
}

// sharedChannels are the channels of a shared port; nil outside phaseShared.
func (s *Service) sharedChannels() (changedCh, doneCh <-chan struct{}) {
	if s.phase != phaseShared {
		return nil, nil
	}
	return s.shared.Changed(), s.shared.Done()
}

type (
	sharedChangedInput struct{}
	sharedEndedInput   struct{}
)

func (sharedChangedInput) apply(s *Service) (event, bool) {
	s.publishShared()
	return 0, false
}

// apply has the port bound, or borrowed from the next holder. Until that is decided the variables of the service stay.
func (sharedEndedInput) apply(s *Service) (event, bool) {
	now := s.shared.Status()
	s.setStateAndError(forwarder.Restarting, fmt.Sprintf("the project %s no longer shares the port", now.Project), "")
	s.publish(func(st *status) { st.upSince = time.Time{} })
	return eventShareEnded, true
}

// publishShared publishes what the holder says.
func (s *Service) publishShared() {
	now := s.shared.Status()
	reason, hint := s.host.Mask(now.LastError), ""
	if now.Hint != "" {
		hint = s.host.Mask(now.Hint) + " (in " + now.Project + ")"
	}
	s.publish(func(st *status) {
		st.state, st.lastError, st.hint, st.failures = forwarder.Shared, reason, hint, 0
		st.upSince, st.checkedAt, st.latency = now.UpSince, now.CheckedAt, now.Latency
		if now.Target != "" {
			st.target = now.Target
		}
	})
}

// returnShared gives a shared port back to its holder.
func (s *Service) returnShared() {
	if s.shared != nil {
		s.shared.Close()
		s.shared = nil
	}
}

// effectiveState is the state in which a client finds the service: if it is shared, that at the holder.
func (s *Service) effectiveState() forwarder.State {
	if s.status.state == forwarder.Shared && s.shared != nil {
		return s.shared.Status().State
	}
	return s.status.state
}

// SetKeptUp has a service on demand open its tunnel now, and keep it without clients, as long as isKeptUp is set: another project shares the
// service and is to have it up.
func (s *Service) SetKeptUp(isKeptUp bool) {
	s.send(request{kind: requestSetKeptUp, isKeptUp: isKeptUp})
}

// isOnDemand reports whether the service has a tunnel only when clients need it.
func (s *Service) isOnDemand() bool { return s.definition.OnDemand && !s.isKeptUp }

func (r request) applySetKeptUp(s *Service) (event, bool) {
	s.isKeptUp = r.isKeptUp
	if s.health != nil {
		s.health.restartIdleTimer()
	}
	if s.phase == phaseIdle && !s.isOnDemand() {
		return eventAttemptDue, true
	}
	return 0, false
}
