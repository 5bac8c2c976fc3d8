package service

import (
	"context"
	"errors"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/forwarder/relay"
	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/project"
)

// stableTime is how long a tunnel must be up for its end to reset the count of failures in a row.
const stableTime = time.Minute

// reportedFailures is how many attempts in a row must fail before the user is notified.
const reportedFailures = 3

// The reasons for restarts, as in the metrics.
const (
	restartReasonEnded     = "ended"      // the tunnel ended by itself
	restartReasonNotOpened = "not_opened" // it could not be opened
	restartReasonSilent    = "silent"     // no health check was answered through it
	restartReasonFrozen    = "frozen"     // its process was stopped
	restartReasonRequested = "asked"      // requested by the user or a changed config
	restartReasonIdle      = "idle"       // no client used it for idle_timeout
)

// Causes for the end of an attempt or a tunnel that are not failures.
var (
	errRequested      = errors.New("another tunnel was requested")
	errNetworkChanged = errors.New("the network changed") // the route of the attempt may be stale
	errIdle           = errors.New("no client used the tunnel for idle_timeout")
)

// Snapshot is the published state of a service. It is immutable.
type Snapshot struct {
	Service   project.Service
	Driver    forwarder.Driver
	State     forwarder.State
	Since     time.Time // of the state
	UpSince   time.Time // of the tunnel; zero while there is none
	Restarts  int       // tunnels opened after the first since the start
	LastError string    // masked; empty once recovered
	Hint      string
	Target    string
	CheckedAt time.Time // when the last health check ended; zero: never
	Latency   time.Duration
	IsEnding  bool // stopped, but processes of its tunnel still run
	// Shared is the status at the project that has the port; nil unless that one shares it. For a moment after it has ended that, State is
	// another one than forwarder.Shared.
	Shared *SharedStatus

	LastRefusal     string // the last request of a client that the far end refused, masked; empty: none
	LastRefusalHint string
	LastRefusedAt   time.Time // of LastRefusal

	port Port
}

// IsPortHeld reports whether the service's port is bound.
func (s *Snapshot) IsPortHeld() bool { return s.port != nil }

// IsReachable reports whether clients can connect: the port is bound, here or by the project that shares it.
func (s *Snapshot) IsReachable() bool { return s.IsPortHeld() || s.Shared != nil }

// EffectiveState is the state in which a client finds the service: if it is shared, that at the holder.
func (s *Snapshot) EffectiveState() forwarder.State {
	if s.State == forwarder.Shared && s.Shared != nil {
		return s.Shared.State
	}
	return s.State
}

// Port is the service's port; nil if it is not bound.
func (s *Snapshot) Port() Port { return s.port }

// Stats are the current statistics of the port; zero if it is not bound.
func (s *Snapshot) Stats() relay.Stats {
	if s.port == nil {
		return relay.Stats{}
	}
	return s.port.Stats()
}

// Snapshot returns the current snapshot. It never waits.
func (s *Service) Snapshot() *Snapshot { return s.snapshot.Load() }

// status is what the run loop publishes in snapshots.
type status struct {
	state             forwarder.State
	since             time.Time
	upSince           time.Time
	restarts          int
	failures          int // attempts in a row
	run               string
	isFailureReported bool // the user was notified of the failure
	lastError         string
	hint              string
	target            string
	checkedAt         time.Time
	latency           time.Duration
	isEnding          bool
	lastRefusal       string
	lastRefusalHint   string
	lastRefusedAt     time.Time
}

// publish changes the status and publishes it as a snapshot, with the events that follow.
func (s *Service) publish(change func(*status)) {
	before := s.status.state
	change(&s.status)
	st := &s.status
	if st.state != before {
		st.since = time.Now()
		s.host.Log.Info("state", "service", s.name, "tunnel", st.run, "from", before, "to", st.state, "error", st.lastError)
	}
	var shared *SharedStatus
	if s.shared != nil {
		shared = new(s.shared.Status())
	}
	s.snapshot.Store(&Snapshot{
		Service: s.definition.Service, Driver: s.definition.Driver, State: st.state, Since: st.since, UpSince: st.upSince,
		Restarts: st.restarts, LastError: st.lastError, Hint: st.hint, Target: st.target, CheckedAt: st.checkedAt,
		Latency: st.latency, IsEnding: st.isEnding, port: s.port,
		LastRefusal: st.lastRefusal, LastRefusalHint: st.lastRefusalHint, LastRefusedAt: st.lastRefusedAt, Shared: shared,
	})
	s.host.Dependencies.set(dependency{name: s.name, state: s.effectiveState(), hint: st.hint, waitsOn: s.blockedOn.name}, s.waitingCh)
	s.host.OnChange()
	if st.state != before {
		s.host.OnStateChange()
	}
	// Whoever reads an event finds its change in the snapshot.
	if st.state != before && before != "" { // else the service has just been made
		s.publishEvent(eventlog.StateChanged, before)
	}
	s.publishFailureOrRecovery(before)
}

func (s *Service) setState(state forwarder.State) { s.publish(func(st *status) { st.state = state }) }

// setStateAndError changes the state and the last error, which it masks.
func (s *Service) setStateAndError(state forwarder.State, reason, hint string) {
	reason, hint = s.host.Mask(reason), s.host.Mask(hint)
	s.publish(func(st *status) { st.state, st.lastError, st.hint = state, reason, hint })
}

func (s *Service) publishEvent(kind eventlog.Kind, from forwarder.State) {
	st := &s.status
	to := st.state
	if kind != eventlog.StateChanged {
		to = s.effectiveState()
	}
	s.host.PublishEvent(eventlog.Event{
		Kind: kind, Service: s.name, From: string(from), To: string(to), Reason: st.lastError, Hint: st.hint, Run: st.run,
	}, to)
}

// publishFailureOrRecovery publishes one event when the service cannot be reached, and one when it has recovered.
func (s *Service) publishFailureOrRecovery(before forwarder.State) {
	st := &s.status
	switch state := s.effectiveState(); state {
	case forwarder.Failed, forwarder.NeedsAttention, forwarder.Unhealthy, forwarder.Restarting:
		isTemporary := state == forwarder.Restarting && st.failures < reportedFailures
		if !st.isFailureReported && !isTemporary {
			st.isFailureReported = true
			s.publishEvent(eventlog.ServiceFailed, before)
		}
	case forwarder.Healthy, forwarder.Idle:
		if st.isFailureReported {
			st.isFailureReported = false
			s.publishEvent(eventlog.ServiceRecovered, before)
		}
	case forwarder.Stopped:
		st.isFailureReported = false
	}
}

// publishEnd counts and publishes the end of the attempt or tunnel, and the state that follows.
func (s *Service) publishEnd() {
	target := s.definition.target() // a failed attempt may have found out more about it
	failure, isFailure := s.failure()
	if isFailure {
		s.attempts.failures++
		if failure.MayPass && s.attempts.mayPassSince.IsZero() {
			s.attempts.mayPassSince = time.Now()
		}
		s.host.Log.Warn("tunnel ended", "service", s.name, "reason", s.host.Mask(failure.Reason),
			"failures", s.attempts.failures, "tunnel", s.status.run)
	}
	s.publish(func(st *status) {
		st.upSince, st.target = time.Time{}, target
		if isFailure {
			st.failures = s.attempts.failures
			st.lastError, st.hint = s.host.Mask(failure.Reason), s.host.Mask(failure.Hint)
		}
		if !errors.Is(s.endCause, errNetworkChanged) {
			st.state = stateForOutcome(s.outcome())
		}
	})
}

// failure returns why the attempt or tunnel ended; false if the end was no failure.
func (s *Service) failure() (*forwarder.Failure, bool) {
	for _, planned := range []error{errRequested, errNetworkChanged, errIdle} {
		if errors.Is(s.endCause, planned) {
			return nil, false
		}
	}
	if failure, ok := errors.AsType[*forwarder.Failure](s.endCause); ok {
		return failure, true
	}
	return &forwarder.Failure{Reason: s.endCause.Error()}, true
}

// A failure that may pass is final after passAttempts attempts and passTime, whichever is later. After that it is tried again every
// passRetryInterval.
const (
	passAttempts      = 3
	passTime          = time.Minute
	passRetryInterval = 5 * time.Minute
)

// mayStillPass reports whether a failure is to be retried, although only a person can end it if it lasts.
func (a *attemptHistory) mayStillPass(failure *forwarder.Failure) bool {
	return failure.MayPass && (a.failures < passAttempts || time.Since(a.mayPassSince) < passTime)
}

// outcome is the event that follows the end of the attempt or tunnel.
func (s *Service) outcome() event {
	failure, isFailure := s.failure()
	policy := s.definition.RestartPolicy
	switch {
	case errors.Is(s.endCause, errIdle):
		return eventIdle
	case !isFailure:
		s.attempts.isUrgent = s.attempts.isUrgent || errors.Is(s.endCause, errNetworkChanged)
		return eventRetryNow
	case failure.Class == forwarder.NeedsUser && !s.attempts.mayStillPass(failure):
		return eventNeedsAttention
	case failure.Class == forwarder.Permanent, !policy.Enabled,
		policy.MaxAttempts > 0 && s.attempts.failures >= policy.MaxAttempts:
		return eventFailed
	case s.isOnDemand() && (s.port == nil || s.port.Stats().Waiting == 0):
		return eventIdle
	}
	return eventRetryLater
}

// stateForOutcome is the state that an outcome leads to.
func stateForOutcome(outcome event) forwarder.State {
	switch outcome {
	case eventIdle:
		return forwarder.Idle
	case eventFailed:
		return forwarder.Failed
	case eventNeedsAttention:
		return forwarder.NeedsAttention
	}
	return forwarder.Restarting
}

// resultLabel is the label of a health check's result in the metrics.
func resultLabel(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.As(err, new(*forwarder.Refusal)):
		return "refused"
	case errors.As(err, new(*probe.Failure)):
		return "failed"
	}
	return "error"
}

// IsStopped reports whether the service is stopped. Its tunnel may not have ended yet.
func (s *Snapshot) IsStopped() bool { return s.State == forwarder.Stopped }
