package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/project"
)

// processCheckInterval is the time between checks of a tunnel's process. One that is found stopped is checked again after
// secondProcessCheckDelay.
const (
	processCheckInterval    = 5 * time.Second
	secondProcessCheckDelay = 2 * time.Second
)

// firstRecheckDelay is the first delay before an unhealthy service is checked again. It doubles up to health_check.interval.
const firstRecheckDelay = time.Second

// healthMonitor checks the attached tunnel and the service behind it. It belongs to the goroutine of Run.
type healthMonitor struct {
	s                *Service
	tunnel           forwarder.Tunnel
	cancel           context.CancelFunc
	startCheck       func()             // starts a health check now
	cancelCheck      context.CancelFunc // of the last check
	checkTimer       *wait.LongTimer
	idleTimer        *time.Timer              // for idle_timeout; stopped unless the service is on demand
	processMonitor   forwarder.ProcessMonitor // the tunnel; nil if it has no process that could be stopped
	processTimer     *wait.LongTimer          // nil without processMonitor
	failureChangedCh <-chan struct{}          // the tunnel's reported failure may have changed; nil if it reports none
	isFailing        bool                     // the tunnel last reported a failure, other than doubt
	doubt            *forwarder.Failure       // the reported failure that a check can disprove (MayServe); nil if there is none
	isChecking       bool                     // a health check is running
	isOutdated       bool                     // that check is of an earlier definition: its result does not count
	isStopped        bool                     // the process was stopped at the last check
	resultCh         chan checkResult
	earlySuccessCh   chan struct{} // the running check has reported an early success
	isEarly          bool          // the service is healthy by that alone
	successes        int           // in a row
	failures         int
}

// checkResult is the outcome of one health check.
type checkResult struct {
	err       error
	duration  time.Duration
	isReached bool // the far end responded or acknowledged the connection
}

func newHealthMonitor(ctx context.Context, s *Service) *healthMonitor {
	h := &healthMonitor{s: s, tunnel: s.tunnel, resultCh: make(chan checkResult, 1), earlySuccessCh: make(chan struct{}, 1)}
	ctx, h.cancel = context.WithCancel(ctx)
	h.cancelCheck = func() {}
	h.startCheck = func() {
		var checkCtx context.Context
		checkCtx, h.cancelCheck = context.WithCancel(ctx)
		h.startCheckJob(checkCtx)
	}
	h.checkTimer = wait.NewLongTimer(0)
	h.idleTimer = time.NewTimer(s.definition.IdleTimeout)
	if !s.isOnDemand() {
		h.idleTimer.Stop()
	}
	if monitor, ok := h.tunnel.(forwarder.ProcessMonitor); ok {
		h.processMonitor, h.processTimer = monitor, wait.NewLongTimer(wait.AlignDelay(processCheckInterval))
	}
	if reporter, ok := h.tunnel.(forwarder.FailureReporter); ok {
		h.failureChangedCh = reporter.FailureChanged()
	}
	if s.definition.check == nil {
		h.checkTimer.Stop()
	}
	return h
}

// showInitialState publishes what is known before the first check.
func (h *healthMonitor) showInitialState() {
	if !h.showTunnelFailure() && h.s.definition.check == nil {
		h.setHealthy()
	}
}

// stop stops the checks and cancels a running one; waitForCheck waits for it.
func (h *healthMonitor) stop() {
	h.cancel()
	h.checkTimer.Stop()
	h.idleTimer.Stop()
	if h.processTimer != nil {
		h.processTimer.Stop()
	}
}

// waitForCheck waits for a cancelled check. Call it after stop; nothing else may read resultCh then.
func (h *healthMonitor) waitForCheck() {
	if h.isChecking {
		<-h.resultCh
	}
}

// healthChannels are the channels of the attached tunnel and its checks. All are nil while there is no tunnel.
type healthChannels struct {
	tunnelDoneCh, failureChangedCh               <-chan struct{}
	checkDueCh, idleTimeoutCh, processCheckDueCh <-chan time.Time
	checkResultCh                                <-chan checkResult
	earlySuccessCh                               <-chan struct{}
}

func (s *Service) healthChannels() healthChannels {
	h := s.health
	if h == nil {
		return healthChannels{}
	}
	channels := healthChannels{
		tunnelDoneCh: h.tunnel.Done(), failureChangedCh: h.failureChangedCh, idleTimeoutCh: h.idleTimer.C, checkResultCh: h.resultCh,
		earlySuccessCh: h.earlySuccessCh,
	}
	if h.processTimer != nil {
		channels.processCheckDueCh = h.processTimer.C
	}
	if !h.isChecking {
		channels.checkDueCh = h.checkTimer.C
	}
	return channels
}

type (
	tunnelFailureInput   struct{}
	lastClientInput      struct{}
	checkDueInput        struct{}
	earlySuccessInput    struct{}
	idleTimeoutInput     struct{}
	processCheckDueInput struct{}
)

// apply publishes the failure that the tunnel reports, or has the service checked when it reports none any more.
func (tunnelFailureInput) apply(s *Service) (event, bool) {
	h := s.health
	before, doubt := h.isFailing, h.doubt
	switch {
	case h.showTunnelFailure():
	case !before && (doubt == nil) == (h.doubt == nil):
		if s.status.state == forwarder.Healthy {
			h.publishHealthy() // the doubt may have another reason
		}
	case s.definition.check == nil:
		h.setHealthy()
	default:
		h.checkNow()
	}
	return 0, false
}

// apply restarts the idle timer of a service on demand.
func (lastClientInput) apply(s *Service) (event, bool) {
	if s.health != nil {
		s.health.restartIdleTimer()
	}
	return 0, false
}

// apply starts a check. A tunnel that a refused connection would end is not checked while it has clients, whose connections show
// whether the service responds.
func (checkDueInput) apply(s *Service) (event, bool) {
	h := s.health
	switch stats := s.port.Stats(); {
	case h.isFragile() && stats.Open+stats.Waiting > 0:
		h.checkAfter(firstRecheckDelay)
	case h.showTunnelFailure():
		h.checkAfter(s.definition.HealthCheck.Interval)
	default:
		h.startCheck()
	}
	return 0, false
}

// apply makes a service healthy whose first check through this tunnel has reported an early success. One that is unhealthy waits for the result: most
// early successes that turn out wrong are those of a server that has refused connections before.
func (earlySuccessInput) apply(s *Service) (event, bool) {
	h := s.health
	if state := s.status.state; h.isChecking && !h.isOutdated && !h.isFailing && state != forwarder.Unhealthy && h.successes+1 >= s.definition.HealthCheck.SuccessThreshold {
		h.isEarly = state != forwarder.Healthy
		h.publishHealthy()
	}
	return 0, false
}

// apply closes the tunnel, unless a client has connected in the meantime: the timer restarts when it disconnects.
func (idleTimeoutInput) apply(s *Service) (event, bool) {
	if stats := s.port.Stats(); stats.Open > 0 || stats.Waiting > 0 {
		return 0, false
	}
	s.endCause = errIdle
	return s.loseTunnel(restartReasonIdle), true
}

// apply replaces a tunnel whose process is stopped at two checks in a row: when all processes are continued, this one may be the last.
func (processCheckDueInput) apply(s *Service) (event, bool) {
	h := s.health
	wasStopped := h.isStopped
	if h.isStopped = h.processMonitor.IsProcessStopped(); h.isStopped && !wasStopped {
		h.processTimer.Reset(secondProcessCheckDelay)
		return 0, false
	}
	h.processTimer.Reset(wait.AlignDelay(processCheckInterval))
	if h.isStopped {
		s.endCause = &forwarder.Failure{Reason: "the tunnel's process is suspended (SIGSTOP)"}
		return s.loseTunnel(restartReasonFrozen), true
	}
	return 0, false
}

// apply publishes a check's outcome. A tunnel that no longer carries anything, and cannot find that out itself, is replaced.
func (r checkResult) apply(s *Service) (event, bool) {
	h, hc := s.health, s.definition.HealthCheck
	wasEarly, wasOutdated := h.isEarly, h.isOutdated
	h.isChecking, h.isEarly, h.isOutdated = false, false, false
	h.cancelCheck()
	if wasOutdated {
		select {
		case <-h.earlySuccessCh:
		default:
		}
		h.checkNow()
		return 0, false
	}
	s.publish(func(st *status) { st.checkedAt, st.latency = time.Now(), r.duration })
	s.counters.countCheck(r)
	switch {
	case h.showTunnelFailure():
		h.checkAfter(hc.Interval)
	case r.err == nil:
		h.onSuccess(hc)
	default:
		h.successes = 0
		h.failures++
		if r.isUnanswered() && h.failures >= hc.FailureThreshold && time.Since(s.port.Stats().LastByte) > hc.Interval {
			if checker, ok := s.tunnel.(forwarder.ConnectionChecker); ok {
				checker.CheckConnection() // it knows better than a check whether its connections are dead
			} else {
				s.endCause = &forwarder.Failure{Reason: "no response through the tunnel within " + hc.Timeout.String()}
				return s.loseTunnel(restartReasonSilent), true
			}
		}
		h.onFailure(r, hc, wasEarly)
	}
	return 0, false
}

func (h *healthMonitor) onSuccess(hc project.HealthCheck) {
	h.successes++
	if h.successes < hc.SuccessThreshold {
		h.checkAfter(firstRecheckDelay)
		return
	}
	h.setHealthy()
	h.checkTimer.Reset(wait.AlignDelay(hc.Interval)) // with the checks of other services that are healthy: the process wakes once for all
}

// onFailure publishes the failure of a check, if it is enough to change the state: the first is if no check has succeeded before.
func (h *healthMonitor) onFailure(r checkResult, hc project.HealthCheck, wasEarly bool) {
	if errors.As(r.err, new(*forwarder.Refusal)) || h.failures >= hc.FailureThreshold || wasEarly || h.s.status.state != forwarder.Healthy {
		reason, hint := r.explain(hc.Timeout)
		reason, hint = h.addDoubt(reason, hint)
		h.s.setStateAndError(forwarder.Unhealthy, reason, hint)
	}
	rechecks := wait.Backoff{First: firstRecheckDelay, Max: min(hc.Interval, firstRecheckDelay<<8)}
	h.checkAfter(rechecks.After(h.failures))
}

// onServerReached counts a client's success as that of a check, if a check would find out no more or is not made while there are
// clients. Whether a database accepts the login only its own check can tell.
func (h *healthMonitor) onServerReached() {
	if !h.isFailing && (h.s.definition.HealthCheck.Type == project.CheckTCP || h.isFragile()) {
		h.setHealthy()
	}
}

// addDoubt puts the tunnel's doubt, if it has one, before why a connection failed: either may be the cause of the other.
func (h *healthMonitor) addDoubt(reason, hint string) (string, string) {
	switch {
	case h.doubt == nil:
		return reason, hint
	case reason == h.doubt.Reason: // no connection was made because of it
		return reason, h.doubt.Hint
	}
	return h.doubt.Reason + "; " + reason, cmp.Or(hint, h.doubt.Hint)
}

// onRefusal publishes the refusal of one connection. The tunnel is kept and checked soon.
func (h *healthMonitor) onRefusal(refusal forwarder.Refusal) {
	if refusal.IsRequest {
		reason, hint := h.s.host.Mask(refusal.Reason), h.s.host.Mask(refusal.Hint)
		h.s.publish(func(st *status) { st.lastRefusal, st.lastRefusalHint, st.lastRefusedAt = reason, hint, time.Now() })
	}
	if !refusal.IsConnectFailure {
		h.s.host.Log.Info("connection failed", "service", h.s.name, "reason", h.s.host.Mask(refusal.Reason))
		return
	}
	h.successes = 0
	reason, hint := h.addDoubt(refusal.Reason, refusal.Hint)
	h.s.setStateAndError(forwarder.Unhealthy, reason, hint)
	if !h.isChecking && h.s.definition.check != nil {
		h.checkAfter(firstRecheckDelay)
	}
}

// onRedefine applies a changed definition of the service.
func (h *healthMonitor) onRedefine() {
	h.successes, h.failures = 0, 0
	if h.isChecking {
		h.isOutdated, h.isEarly = true, false
		h.cancelCheck()
	}
	if h.s.definition.check == nil {
		h.checkTimer.Stop()
		if !h.showTunnelFailure() {
			h.setHealthy()
		}
	}
	h.checkNow()
	if stats := h.s.port.Stats(); stats.Open+stats.Waiting == 0 {
		h.restartIdleTimer()
	}
}

// showTunnelFailure publishes the failure that the tunnel reports, and returns whether there is one. The service is not checked
// meanwhile.
func (h *healthMonitor) showTunnelFailure() bool {
	reporter, ok := h.tunnel.(forwarder.FailureReporter)
	if !ok {
		return false
	}
	failure := reporter.CurrentFailure()
	if h.doubt = nil; failure != nil && failure.MayServe {
		h.doubt = failure
		if h.s.status.state != forwarder.Healthy && h.s.definition.check != nil {
			h.s.setStateAndError(forwarder.Unhealthy, failure.Reason, failure.Hint) // until a check succeeds
		}
		failure = nil
	}
	if h.isFailing = failure != nil; h.isFailing {
		h.successes = 0
		h.s.setStateAndError(forwarder.Unhealthy, failure.Reason, failure.Hint)
	}
	return h.isFailing
}

// setHealthy makes the service healthy, after a successful check or a client's success.
func (h *healthMonitor) setHealthy() {
	h.failures = 0
	h.publishHealthy()
}

func (h *healthMonitor) publishHealthy() {
	if h.s.status.state != forwarder.Healthy || h.s.status.hint != h.note() {
		h.s.setStateAndError(forwarder.Healthy, "", h.note())
	}
}

// note is what status says of a healthy service whose tunnel reports a failure all the same, or has something else to say; empty if it does not.
func (h *healthMonitor) note() string {
	if h.doubt != nil {
		return h.s.host.Mask(h.doubt.Reason + "; it is used because no pod is Ready, and it answers")
	}
	if reporter, ok := h.tunnel.(forwarder.NoteReporter); ok {
		return h.s.host.Mask(reporter.Note())
	}
	return ""
}

// isFragile reports whether a refused connection ends the tunnel.
func (h *healthMonitor) isFragile() bool {
	_, fragile := h.tunnel.(forwarder.EndsOnRefusal)
	return fragile
}

func (h *healthMonitor) restartIdleTimer() {
	if !h.s.isOnDemand() {
		h.idleTimer.Stop()
	} else {
		h.idleTimer.Reset(h.s.definition.IdleTimeout)
	}
}

// checkNow starts the next check at once, unless one is running.
func (h *healthMonitor) checkNow() {
	if !h.isChecking && h.s.definition.check != nil {
		h.checkTimer.Reset(0)
	}
}

// checkAfter schedules the next check of a service that is not healthy after a delay less up to a tenth, so that services whose checks take until their
// timeout are not all checked together.
func (h *healthMonitor) checkAfter(delay time.Duration) {
	h.checkTimer.Reset(wait.SubtractJitter(delay, 0.1))
}

func (h *healthMonitor) startCheckJob(ctx context.Context) {
	h.isChecking = true
	s := h.s
	check, timeout := s.definition.check, s.definition.HealthCheck.Timeout
	path := probeDialer{s.port, h.tunnel, new(atomic.Bool), &s.host, s.definition.Addresses()[0], &earlyReport{ch: h.earlySuccessCh}}
	s.jobs.Go(func() {
		growStack()
		select {
		case s.host.CheckSlots <- struct{}{}:
			defer func() { <-s.host.CheckSlots }()
		case <-ctx.Done():
			h.resultCh <- checkResult{err: ctx.Err()}
			return
		}
		h.resultCh <- runCheck(ctx, check, timeout, path)
	})
}

// growStack grows the stack for a dial in one step, while it is almost empty. To grow it during a dial, the runtime would walk the
// frames with tables that are paged in for that alone (1.1 MB).
//
//go:noinline
func growStack() {
	var buf [6 << 10]byte
	runtime.KeepAlive(&buf)
}

// runCheck runs a check once. A panic counts as a failed check.
func runCheck(ctx context.Context, check probe.Check, timeout time.Duration, p probeDialer) (r checkResult) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	start := time.Now()
	defer func() {
		if failure := recover(); failure != nil {
			r.err = fmt.Errorf("the health check panicked: %v", failure)
		}
		r.duration, r.isReached = time.Since(start), p.isReached.Load()
		if r.err == nil && p.early.roundTrip > 0 {
			r.duration = p.early.roundTrip // and not how long the check has watched the connection
		}
	}()
	return checkResult{err: check(ctx, p)}
}

// isUnanswered reports whether no byte was received, as through a dead tunnel. A far end that is slow, refuses the connection or
// rejects the password has been reached: another tunnel would not help.
func (r checkResult) isUnanswered() bool {
	return errors.Is(r.err, context.DeadlineExceeded) && !r.isReached
}

// explain says why a check failed, and what to do.
func (r checkResult) explain(timeout time.Duration) (reason, hint string) {
	var probeFailure *probe.Failure
	var tunnelFailure *forwarder.Failure
	var refusal *forwarder.Refusal
	switch {
	case errors.As(r.err, &tunnelFailure):
		return tunnelFailure.Reason, tunnelFailure.Hint
	case errors.As(r.err, &probeFailure):
		return probe.JoinLines(probeFailure.Reason), probeFailure.Hint
	case errors.As(r.err, &refusal):
		return r.err.Error(), refusal.Hint
	case errors.Is(r.err, context.DeadlineExceeded) && r.isReached:
		return fmt.Sprintf("no answer to the health check within %v", timeout), "is the service busy? health_check.timeout gives it more time"
	case errors.Is(r.err, context.DeadlineExceeded):
		return fmt.Sprintf("no response within %v", timeout), ""
	}
	return probe.Reason(r.err), ""
}
