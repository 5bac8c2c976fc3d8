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

// stableTime is how long a tunnel must have been up for its end not to count as one more failure in a row.
const stableTime = time.Minute

// announceAfter is how many attempts in a row may fail before the user is told: what recovers at once is no news.
const announceAfter = 3

// The reasons of restarts, as metrics have them.
const (
	reasonEnded     = "ended"      // the tunnel ended by itself
	reasonNotOpened = "not_opened" // it could not be opened
	reasonSilent    = "silent"     // nothing came back through it
	reasonFrozen    = "frozen"     // its process was stopped
	reasonAsked     = "asked"      // by the user, or a changed config
	reasonIdle      = "idle"       // nobody used it for idle_timeout
)

// Why an attempt or a tunnel has ended without a failure.
var (
	errRequested      = errors.New("another tunnel was asked for")
	errNetworkChanged = errors.New("the network changed") // the route of the attempt may be stale
	errUnused         = errors.New("no client used the tunnel for idle_timeout")
)

// Snapshot is a service as others see it. It does not change.
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
	Checked   time.Time // when the health was checked last; zero: never
	Latency   time.Duration
	Ending    bool // stopped, but something of its tunnel still runs

	port Port
}

// Held reports whether the supervisor has the service's port.
func (s *Snapshot) Held() bool { return s.port != nil }

// Port is the service's port; nil where it is not held.
func (s *Snapshot) Port() Port { return s.port }

// Stats are the connections of the moment; all zero where the port is not held.
func (s *Snapshot) Stats() relay.Stats {
	if s.port == nil {
		return relay.Stats{}
	}
	return s.port.Stats()
}

// Snapshot is the service as it is now. It never waits.
func (s *Service) Snapshot() *Snapshot { return s.snapshot.Load() }

// status is what the loop knows of the service and others see.
type status struct {
	state     forwarder.State
	since     time.Time
	upSince   time.Time
	restarts  int
	failures  int // attempts in a row
	run       string
	announced bool // the user was told that it failed
	lastError string
	hint      string
	target    string
	checked   time.Time
	latency   time.Duration
	ending    bool
}

// publish changes what others see.
func (s *Service) publish(change func(*status)) {
	before := s.status.state
	change(&s.status)
	st := &s.status
	if st.state != before {
		st.since = time.Now()
		s.host.Log.Info("state", "service", s.name, "tunnel", st.run, "from", before, "to", st.state, "error", st.lastError)
		if before != "" { // it was only made
			s.report(eventlog.StateChanged, before)
		}
	}
	s.announce(before)
	s.snapshot.Store(&Snapshot{
		Service: s.definition.Service, Driver: s.definition.Driver, State: st.state, Since: st.since, UpSince: st.upSince,
		Restarts: st.restarts, LastError: st.lastError, Hint: st.hint, Target: st.target, Checked: st.checked,
		Latency: st.latency, Ending: st.ending, port: s.port,
	})
	s.host.Dependencies.set(s.name, st.state, s.waiting)
	s.host.OnChange()
}

func (s *Service) setState(state forwarder.State) { s.publish(func(st *status) { st.state = state }) }

// setTrouble changes the state, and what went wrong last.
func (s *Service) setTrouble(state forwarder.State, reason, hint string) {
	reason, hint = s.host.Mask(reason), s.host.Mask(hint)
	s.publish(func(st *status) { st.state, st.lastError, st.hint = state, reason, hint })
}

func (s *Service) report(kind eventlog.Kind, from forwarder.State) {
	st := &s.status
	s.host.Report(eventlog.Event{
		Kind: kind, Service: s.name, From: string(from), To: string(st.state), Reason: st.lastError, Hint: st.hint, Run: st.run,
	}, st.state)
}

// announce reports, once, that the service cannot be reached, and once that it has recovered.
func (s *Service) announce(before forwarder.State) {
	st := &s.status
	switch st.state {
	case forwarder.Failed, forwarder.NeedsAttention, forwarder.Unhealthy:
	case forwarder.Restarting:
		if st.failures < announceAfter {
			return
		}
	case forwarder.Healthy, forwarder.Idle:
		if st.announced {
			st.announced = false
			s.report(eventlog.ServiceRecovered, before)
		}
		return
	case forwarder.Stopped:
		st.announced = false
		return
	default:
		return
	}
	if !st.announced {
		st.announced = true
		s.report(eventlog.ServiceFailed, before)
	}
}

// settle shows why the attempt or the tunnel is over, and what comes next.
func (s *Service) settle() {
	target := s.definition.Driver.Target(s.definition.Service) // which an attempt that failed may have found out
	failure, failed := s.failure()
	if failed {
		s.attempts.failures++
		s.host.Log.Warn("tunnel ended", "service", s.name, "reason", s.host.Mask(failure.Reason),
			"failures", s.attempts.failures, "tunnel", s.status.run)
	}
	s.publish(func(st *status) {
		st.upSince, st.target = time.Time{}, target
		if failed {
			st.failures = s.attempts.failures
			st.lastError, st.hint = s.host.Mask(failure.Reason), s.host.Mask(failure.Hint)
		}
		if !errors.Is(s.cause, errNetworkChanged) {
			st.state = stateAfter(s.outcome())
		}
	})
}

// failure is why the attempt or the tunnel is over; false if it is over without a failure.
func (s *Service) failure() (*forwarder.Failure, bool) {
	for _, planned := range []error{errRequested, errNetworkChanged, errUnused} {
		if errors.Is(s.cause, planned) {
			return nil, false
		}
	}
	if failure, ok := errors.AsType[*forwarder.Failure](s.cause); ok {
		return failure, true
	}
	return &forwarder.Failure{Reason: s.cause.Error()}, true
}

// outcome is what comes after the attempt or the tunnel that is over.
func (s *Service) outcome() event {
	failure, failed := s.failure()
	policy := s.definition.RestartPolicy
	switch {
	case errors.Is(s.cause, errUnused):
		return eventUnused
	case !failed:
		s.attempts.urgent = s.attempts.urgent || errors.Is(s.cause, errNetworkChanged)
		return eventRetryNow
	case failure.Class == forwarder.ByAttention:
		return eventUserNeeded
	case failure.Class == forwarder.Permanent, !policy.Enabled,
		policy.MaxAttempts > 0 && s.attempts.failures >= policy.MaxAttempts:
		return eventExhausted
	case s.definition.OnDemand && (s.port == nil || s.port.Stats().Waiting == 0):
		return eventUnused
	}
	return eventRetryLater
}

// stateAfter is the state that a service shows after an outcome.
func stateAfter(outcome event) forwarder.State {
	switch outcome {
	case eventUnused:
		return forwarder.Idle
	case eventExhausted:
		return forwarder.Failed
	case eventUserNeeded:
		return forwarder.NeedsAttention
	}
	return forwarder.Restarting
}

// checkResult is the word of metrics for how a check went.
func checkResult(err error) string {
	var (
		failure *probe.Failure
		refusal *forwarder.Refusal
	)
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.As(err, &refusal):
		return "refused"
	case errors.As(err, &failure):
		return "failed"
	}
	return "error"
}

// IsStopped reports whether the service is stopped, whatever of it still ends.
func (s *Snapshot) IsStopped() bool { return s.State == forwarder.Stopped }
