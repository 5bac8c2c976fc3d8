package service

import (
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/wait"
)

type requestKind int

const (
	requestStart requestKind = iota
	requestStop
	requestRestart
	requestRedefine
	requestRetryLogin
	requestSetKeptUp
)

// request is a message from other goroutines to the run loop.
type request struct {
	kind          requestKind
	requestedAt   time.Time // zero: when it is sent
	definition    *Definition
	keepTunnel    bool
	isJustSpawned bool
	askSocket     string
	needsUser     bool
	isKeptUp      bool
	closeAfter    []<-chan struct{}
	doneCh        chan<- struct{} // closed when the port is open or closed and the snapshot says so
	endedCh       chan<- struct{} // for a stop: closed when nothing of the service runs
}

// send sends a request to the run loop and waits for its doneCh, or for the end of the loop.
func (s *Service) send(r request) {
	done := make(chan struct{})
	r.doneCh = done
	if r.requestedAt.IsZero() {
		r.requestedAt = time.Now()
	}
	select {
	case s.requestCh <- r:
	case <-s.doneCh:
		return
	}
	select {
	case <-done:
	case <-s.doneCh:
	}
}

// StartOptions say how a service is started.
type StartOptions struct {
	// Spawned is set if the caller has just spawned the supervisor. A service that has failed since is not tried a second time.
	Spawned bool
	// RequestedAt is when the user asked for it: the same for all services of a command, so that what they share, such as a login, is tried
	// once. Zero means now.
	RequestedAt time.Time
}

// Start starts a stopped service. One that has failed, needs attention, is in backoff or has no port retries at once. When Start
// returns, the port is open or the snapshot says why it is not.
func (s *Service) Start(o StartOptions) {
	s.send(request{kind: requestStart, isJustSpawned: o.Spawned, requestedAt: o.RequestedAt})
}

// Stop closes the port. When it returns, the port is free and the snapshot says so. The tunnel is closed once every channel of
// closeAfter is closed; the returned channel is closed when nothing of the service runs.
func (s *Service) Stop(closeAfter ...<-chan struct{}) <-chan struct{} {
	endedCh := make(chan struct{})
	s.send(request{kind: requestStop, closeAfter: closeAfter, endedCh: endedCh})
	select {
	case <-s.doneCh:
		return s.doneCh
	default:
		return endedCh
	}
}

// Restart replaces the tunnel of a running service, and starts a stopped one. requestedAt is as in StartOptions.
func (s *Service) Restart(requestedAt time.Time) {
	s.send(request{kind: requestRestart, requestedAt: requestedAt})
}

// LogIn opens another tunnel while the user answers questions at a socket. A service that needed attention needs it again if that
// fails. requestedAt is as in StartOptions.
func (s *Service) LogIn(askSocket string, requestedAt time.Time) {
	needsUser := askSocket != "" && s.Snapshot().State == forwarder.NeedsAttention
	s.send(request{kind: requestRestart, askSocket: askSocket, needsUser: needsUser, requestedAt: requestedAt})
}

// Redefine gives the service another definition with the same addresses. The tunnel stays if keepTunnel is set. requestedAt is as in
// StartOptions.
func (s *Service) Redefine(d Definition, keepTunnel bool, requestedAt time.Time) {
	s.send(request{kind: requestRedefine, definition: &d, keepTunnel: keepTunnel, requestedAt: requestedAt})
}

// RetryLogin has a service that needs attention try again, because the environment has changed. If an attempt is under way, which began in the
// former environment, or the service is connected or waits, that is done when the next attempt shows that the service needs attention: a login
// program may still run in the former environment. requestedAt is as in StartOptions.
func (s *Service) RetryLogin(requestedAt time.Time) {
	s.send(request{kind: requestRetryLogin, requestedAt: requestedAt})
}

// OnNetworkChange has the service check its tunnel now. It never waits.
func (s *Service) OnNetworkChange() { wait.Notify(s.networkCh) }

func (r request) apply(s *Service) (event, bool) {
	switch r.kind {
	case requestStart:
		return r.applyStart(s)
	case requestStop:
		s.stopWaiters = append(s.stopWaiters, r.endedCh)
		s.closeAfter = r.closeAfter
		return eventStop, true
	case requestRestart:
		if s.isStopped() {
			return r.applyStart(s)
		}
		return s.applyRestart(r), true
	case requestRetryLogin:
		return r.applyRetryLogin(s)
	case requestSetKeptUp:
		return r.applySetKeptUp(s)
	}
	return s.applyDefinition(r)
}

func (r request) applyRetryLogin(s *Service) (event, bool) {
	if s.phase == phaseNeedsAttention {
		return s.applyRestart(r), true
	}
	s.attempts.outdatedAt = r.requestedAt
	return 0, false
}

func (s *Service) isStopped() bool { return s.phase == phaseStopped || s.phase == phaseStopping }

func (r request) applyStart(s *Service) (event, bool) {
	switch s.phase {
	case phaseStopped, phaseStopping:
		s.attempts = attemptHistory{requestedAt: r.requestedAt, askSocket: r.askSocket, needsUser: r.needsUser}
		s.endCause = errRequested // the next attempt begins when the last tunnel is closed
		s.publish(func(st *status) {
			st.state, st.restarts, st.failures, st.lastError, st.hint, st.isEnding = s.firstState(), 0, 0, "", "", false
			st.lastRefusal, st.lastRefusalHint, st.lastRefusedAt = "", "", time.Time{}
		})
		return eventStart, true
	case phaseUnbound, phaseBackoff, phaseFailed, phaseNeedsAttention:
		if r.isJustSpawned {
			return 0, false
		}
		return s.applyRestart(r), true
	}
	return 0, false
}

// firstState is the state of a service right after its start.
func (s *Service) firstState() forwarder.State {
	if s.isOnDemand() {
		return forwarder.Idle
	}
	return forwarder.Starting
}

// applyRestart records a requested restart as the cause of the current tunnel's end, which therefore is no failure.
func (s *Service) applyRestart(r request) event {
	s.attempts.applyRequest(r)
	s.endCause = errRequested
	s.publish(func(st *status) {
		st.state, st.failures = forwarder.Restarting, 0
		st.lastRefusal, st.lastRefusalHint, st.lastRefusedAt = "", "", time.Time{}
	})
	return eventRestart
}

// applyDefinition replaces the definition.
func (s *Service) applyDefinition(r request) (event, bool) {
	target := r.definition.target()
	s.definition = *r.definition
	s.publish(func(st *status) { st.target = target })
	s.configurePort()
	if !r.keepTunnel {
		s.targetCount++
	}
	if r.keepTunnel || s.isStopped() {
		return eventRedefine, true
	}
	return s.applyRestart(r), true
}

// configurePort applies the definition to the port, if there is one. The definition may have changed while the port was being bound.
func (s *Service) configurePort() {
	if s.port != nil {
		s.port.SetConnectTimeout(s.definition.ConnectTimeout)
		s.port.SetMaxConnections(s.definition.MaxConnections)
	}
}

// acknowledge closes a request's doneCh, now or when the pending bind or release is done.
func (s *Service) acknowledge(r request) {
	switch {
	case r.kind == requestStop && s.releaseDoneCh != nil:
		s.releaseWaiters = append(s.releaseWaiters, r.doneCh)
	case r.kind != requestStop && r.kind != requestRetryLogin && r.kind != requestSetKeptUp && s.bindResultCh != nil:
		s.bindWaiters = append(s.bindWaiters, r.doneCh)
	default:
		close(r.doneCh)
	}
}
