package service

import (
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

// processCheckInterval is how often a tunnel's process is looked at.
const processCheckInterval = 5 * time.Second

// firstRecheckDelay is the first delay before an unhealthy service is checked again; it doubles up to the interval.
const firstRecheckDelay = time.Second

// healthMonitor is what is known of the tunnel that is attached: how it and its service are doing, and when they are checked next. It
// belongs to the goroutine of Run.
type healthMonitor struct {
	s                *Service
	tunnel           forwarder.Tunnel
	cancel           context.CancelFunc
	beginCheck       func() // starts a check
	checkTimer       *time.Timer
	idleTimer        *time.Timer       // of idle_timeout; stopped unless the service is on demand
	freezer          forwarder.Freezer // the tunnel; nil: it has no process that could be stopped
	processTicker    *time.Ticker      // nil without freezer
	failureChangedCh <-chan struct{}   // the tunnel may be in trouble, or out of it; nil: it never says so
	isFailing        bool              // it said so last
	isChecking       bool              // a check runs
	resultCh         chan checkOutcome
	successes        int // checks in a row
	failures         int
}

// checkOutcome is how one check went.
type checkOutcome struct {
	err       error
	duration  time.Duration
	isReached bool // the far end was there, whatever it said
}

func newHealthMonitor(ctx context.Context, s *Service) *healthMonitor {
	h := &healthMonitor{s: s, tunnel: s.tunnel, resultCh: make(chan checkOutcome, 1)}
	ctx, h.cancel = context.WithCancel(ctx)
	h.beginCheck = func() { h.startCheck(ctx) }
	h.checkTimer = time.NewTimer(0)
	h.idleTimer = time.NewTimer(s.definition.IdleTimeout)
	if !s.definition.OnDemand {
		h.idleTimer.Stop()
	}
	if freezer, ok := h.tunnel.(forwarder.Freezer); ok {
		h.freezer, h.processTicker = freezer, time.NewTicker(processCheckInterval)
	}
	if troubled, ok := h.tunnel.(forwarder.Troubled); ok {
		h.failureChangedCh = troubled.Changed()
	}
	if s.definition.check == nil {
		h.checkTimer.Stop()
	}
	return h
}

// showInitialState shows what is known at once.
func (h *healthMonitor) showInitialState() {
	if !h.showTunnelFailure() && h.s.definition.check == nil {
		h.setHealthy()
	}
}

// stop ends the checks. One that runs is cancelled; wait waits for it.
func (h *healthMonitor) stop() {
	h.cancel()
	h.checkTimer.Stop()
	h.idleTimer.Stop()
	if h.processTicker != nil {
		h.processTicker.Stop()
	}
}

// waitForCheck returns when no check runs any more. Call it after stop, in place of reading results.
func (h *healthMonitor) waitForCheck() {
	if h.isChecking {
		<-h.resultCh
	}
}

// healthChannels are the channels of the attached tunnel and its checks; all nil while there is no tunnel.
type healthChannels struct {
	tunnelDone, tunnelChanged           <-chan struct{}
	checkDue, idleTimeout, processCheck <-chan time.Time
	checkResult                         <-chan checkOutcome
}

func (s *Service) healthChannels() healthChannels {
	h := s.health
	if h == nil {
		return healthChannels{}
	}
	channels := healthChannels{
		tunnelDone: h.tunnel.Done(), tunnelChanged: h.failureChangedCh, idleTimeout: h.idleTimer.C, checkResult: h.resultCh,
	}
	if h.processTicker != nil {
		channels.processCheck = h.processTicker.C
	}
	if !h.isChecking {
		channels.checkDue = h.checkTimer.C
	}
	return channels
}

type (
	tunnelChanged   struct{}
	lastClientLeft  struct{}
	checkDue        struct{}
	idleTimeout     struct{}
	processCheckDue struct{}
)

// classify takes a change of what the tunnel says of itself.
func (tunnelChanged) classify(s *Service) (event, bool) {
	h := s.health
	before := h.isFailing
	switch {
	case h.showTunnelFailure() || !before:
	case s.definition.check == nil:
		h.setHealthy()
	default:
		h.checkNow()
	}
	return 0, false
}

// classify begins to count the idle time of a service on demand.
func (lastClientLeft) classify(s *Service) (event, bool) {
	if s.health != nil {
		s.health.restartIdleTimer()
	}
	return 0, false
}

// classify starts a check. A tunnel that a refused connection would end is not checked while it has clients, which show as much.
func (checkDue) classify(s *Service) (event, bool) {
	h := s.health
	switch stats := s.port.Stats(); {
	case h.isFragile() && stats.Open+stats.Waiting > 0:
		h.checkAfter(firstRecheckDelay)
	case h.showTunnelFailure():
		h.checkAfter(s.definition.HealthCheck.Interval)
	default:
		h.beginCheck()
	}
	return 0, false
}

// classify closes the tunnel, unless a client has come in the meantime: when that one leaves, the time is counted again.
func (idleTimeout) classify(s *Service) (event, bool) {
	if stats := s.port.Stats(); stats.Open > 0 || stats.Waiting > 0 {
		return 0, false
	}
	s.cause = errUnused
	return s.loseTunnel(restartReasonIdle), true
}

// classify replaces a tunnel whose process does nothing any more.
func (processCheckDue) classify(s *Service) (event, bool) {
	if s.health.freezer.Frozen() {
		s.cause = &forwarder.Failure{Reason: "the tunnel fell silent: its process was stopped"}
		return s.loseTunnel(restartReasonFrozen), true
	}
	return 0, false
}

// classify takes a check's result. The tunnel is lost when it has fallen silent.
func (r checkOutcome) classify(s *Service) (event, bool) {
	h, hc := s.health, s.definition.HealthCheck
	h.isChecking = false
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
			s.cause = &forwarder.Failure{Reason: "the tunnel fell silent: no answer within " + hc.Timeout.String()}
			return s.loseTunnel(restartReasonSilent), true
		}
		h.onFailure(r, hc)
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
	h.checkAfter(hc.Interval)
}

func (h *healthMonitor) onFailure(r checkOutcome, hc project.HealthCheck) {
	var refusal *forwarder.Refusal
	if errors.As(r.err, &refusal) || h.failures >= hc.FailureThreshold || h.s.status.state != forwarder.Healthy {
		reason, hint := r.explain(hc.Timeout)
		h.s.setStateAndError(forwarder.Unhealthy, reason, hint)
	}
	rechecks := wait.Backoff{First: firstRecheckDelay, Max: min(hc.Interval, firstRecheckDelay<<8)}
	h.checkAfter(rechecks.After(h.failures))
}

// onServerReached takes a client's success for a check's where a check would ask no more than that, or is not made at all while there
// are clients. Whether a database lets us in is for its own check to say.
func (h *healthMonitor) onServerReached() {
	if !h.isFailing && (h.s.definition.HealthCheck.Type == project.CheckTCP || h.isFragile()) {
		h.setHealthy()
	}
}

// onRefusal takes the tunnel's report of one connection: the tunnel is kept, and checked soon.
func (h *healthMonitor) onRefusal(refusal forwarder.Refusal) {
	if !refusal.Connect {
		h.s.host.Log.Info("connection failed", "service", h.s.name, "reason", h.s.host.Mask(refusal.Reason))
		return
	}
	h.successes = 0
	h.s.setStateAndError(forwarder.Unhealthy, refusal.Reason, "")
	if !h.isChecking && h.s.definition.check != nil {
		h.checkAfter(firstRecheckDelay)
	}
}

// onRedefine goes on by a changed definition of the service.
func (h *healthMonitor) onRedefine() {
	h.successes, h.failures = 0, 0
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

// showTunnelFailure shows what the tunnel itself says stands in the way of connections, and reports whether something does. Nothing is
// checked meanwhile.
func (h *healthMonitor) showTunnelFailure() bool {
	troubled, ok := h.tunnel.(forwarder.Troubled)
	if !ok {
		return false
	}
	trouble := troubled.Trouble()
	if h.isFailing = trouble != nil; h.isFailing {
		h.successes = 0
		h.s.setStateAndError(forwarder.Unhealthy, trouble.Reason, trouble.Hint)
	}
	return h.isFailing
}

// setHealthy makes the service healthy: a check succeeded, or a client got an answer.
func (h *healthMonitor) setHealthy() {
	h.failures = 0
	if h.s.status.state != forwarder.Healthy {
		h.s.setStateAndError(forwarder.Healthy, "", "")
	}
}

func (h *healthMonitor) isFragile() bool {
	_, fragile := h.tunnel.(forwarder.Fragile)
	return fragile
}

func (h *healthMonitor) restartIdleTimer() {
	if h.s.definition.OnDemand {
		h.idleTimer.Reset(h.s.definition.IdleTimeout)
	}
}

// checkNow has the next check start at once.
func (h *healthMonitor) checkNow() {
	if !h.isChecking && h.s.definition.check != nil {
		h.checkTimer.Reset(0)
	}
}

// checkAfter has the next check start after a delay, less at most a tenth, so that services are not all checked together.
func (h *healthMonitor) checkAfter(delay time.Duration) {
	h.checkTimer.Reset(wait.SubtractJitter(delay, 0.1))
}

func (h *healthMonitor) startCheck(ctx context.Context) {
	h.isChecking = true
	s := h.s
	check, timeout := s.definition.check, s.definition.HealthCheck.Timeout
	path := probePath{s.port, h.tunnel, new(atomic.Bool), &s.host, s.definition.Addresses()[0]}
	s.runJob(func() {
		growStack()
		// Many services are not checked all at once.
		select {
		case s.host.CheckSlots <- struct{}{}:
			defer func() { <-s.host.CheckSlots }()
		case <-ctx.Done():
			h.resultCh <- checkOutcome{err: ctx.Err()}
			return
		}
		h.resultCh <- runCheck(ctx, check, timeout, path)
	})
}

// growStack makes room on the stack for a dial, in one step while there is next to nothing on it to move. A stack that grows while
// a dial is under way is moved frame by frame, by tables of the program that would be in memory for that alone (1.1 MB).
//
//go:noinline
func growStack() {
	var buf [6 << 10]byte
	runtime.KeepAlive(&buf)
}

// runCheck runs a check once. One that panics has failed; its service is not affected.
func runCheck(ctx context.Context, check probe.Check, timeout time.Duration, p probePath) (r checkOutcome) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	start := time.Now()
	defer func() {
		if trouble := recover(); trouble != nil {
			r.err = fmt.Errorf("the check broke: %v", trouble)
		}
		r.duration, r.isReached = time.Since(start), p.isReached.Load()
	}()
	return checkOutcome{err: check(ctx, p)}
}

// isUnanswered reports whether nothing at all came back, as through a tunnel that is dead and does not know it. A far end that is
// slow, that refuses or that rejects our password has been reached: another tunnel would not help.
func (r checkOutcome) isUnanswered() bool {
	return errors.Is(r.err, context.DeadlineExceeded) && !r.isReached
}

// explain is what a failed check has to say, and what to do about it.
func (r checkOutcome) explain(timeout time.Duration) (reason, hint string) {
	var answer *probe.Failure
	var obstacle *forwarder.Failure
	switch {
	case errors.As(r.err, &obstacle):
		return obstacle.Reason, obstacle.Hint
	case errors.As(r.err, &answer):
		return answer.Reason, answer.Hint
	case errors.Is(r.err, context.DeadlineExceeded) && r.isReached:
		return fmt.Sprintf("no answer to the health check within %v", timeout), "is the service busy? health_check.timeout gives it more time"
	case errors.Is(r.err, context.DeadlineExceeded):
		return fmt.Sprintf("nothing came back within %v", timeout), ""
	}
	return r.err.Error(), ""
}
