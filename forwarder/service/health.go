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

// firstRecheck is the first delay before an unhealthy service is checked again; it doubles up to the interval.
const firstRecheck = time.Second

// health is what is known of the tunnel that is attached: how it and its service are doing, and when they are checked next. It
// belongs to the goroutine of Run.
type health struct {
	s       *Service
	tunnel  forwarder.Tunnel
	cancel  context.CancelFunc
	check   func() // starts a check
	timer   *time.Timer
	idle    *time.Timer       // of idle_timeout; stopped unless the service is on demand
	freezer forwarder.Freezer // the tunnel; nil: it has no process that could be stopped
	process *time.Ticker      // nil without freezer
	changed <-chan struct{}   // the tunnel may be in trouble, or out of it; nil: it never says so
	blocked bool              // it said so last
	running bool              // a check runs
	results chan checkOutcome
	good    int // checks in a row
	bad     int
}

// checkOutcome is how one check went.
type checkOutcome struct {
	err     error
	took    time.Duration
	reached bool // the far end was there, whatever it said
}

func newHealth(ctx context.Context, s *Service) *health {
	h := &health{s: s, tunnel: s.tunnel, results: make(chan checkOutcome, 1)}
	ctx, h.cancel = context.WithCancel(ctx)
	h.check = func() { h.startCheck(ctx) }
	h.timer = time.NewTimer(0)
	h.idle = time.NewTimer(s.definition.IdleTimeout)
	if !s.definition.OnDemand {
		h.idle.Stop()
	}
	if freezer, ok := h.tunnel.(forwarder.Freezer); ok {
		h.freezer, h.process = freezer, time.NewTicker(processCheckInterval)
	}
	if troubled, ok := h.tunnel.(forwarder.Troubled); ok {
		h.changed = troubled.Changed()
	}
	if s.definition.check == nil {
		h.timer.Stop()
	}
	return h
}

// begin shows what is known at once.
func (h *health) begin() {
	if !h.showTrouble() && h.s.definition.check == nil {
		h.setHealthy()
	}
}

// stop ends the checks. One that runs is cancelled; wait waits for it.
func (h *health) stop() {
	h.cancel()
	h.timer.Stop()
	h.idle.Stop()
	if h.process != nil {
		h.process.Stop()
	}
}

// wait returns when no check runs any more. Call it after stop, in place of reading results.
func (h *health) wait() {
	if h.running {
		<-h.results
	}
}

// healthChannels are the channels of the attached tunnel and its checks; all nil while there is no tunnel.
type healthChannels struct {
	tunnelDone, tunnelChanged    <-chan struct{}
	checkDue, idle, processCheck <-chan time.Time
	checkResult                  <-chan checkOutcome
}

func (s *Service) healthChannels() healthChannels {
	h := s.health
	if h == nil {
		return healthChannels{}
	}
	channels := healthChannels{
		tunnelDone: h.tunnel.Done(), tunnelChanged: h.changed, idle: h.idle.C, checkResult: h.results,
	}
	if h.process != nil {
		channels.processCheck = h.process.C
	}
	if !h.running {
		channels.checkDue = h.timer.C
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
	before := h.blocked
	switch {
	case h.showTrouble() || !before:
	case s.definition.check == nil:
		h.setHealthy()
	default:
		h.checkSoon()
	}
	return 0, false
}

// classify begins to count the idle time of a service on demand.
func (lastClientLeft) classify(s *Service) (event, bool) {
	if s.health != nil {
		s.health.countIdle()
	}
	return 0, false
}

// classify starts a check. A tunnel that a refused connection would end is not checked while it has clients, which show as much.
func (checkDue) classify(s *Service) (event, bool) {
	h := s.health
	switch stats := s.port.Stats(); {
	case h.isFragile() && stats.Open+stats.Waiting > 0:
		h.checkAfter(firstRecheck)
	case h.showTrouble():
		h.checkAfter(s.definition.HealthCheck.Interval)
	default:
		h.check()
	}
	return 0, false
}

// classify closes the tunnel, unless a client has come in the meantime: when that one leaves, the time is counted again.
func (idleTimeout) classify(s *Service) (event, bool) {
	if stats := s.port.Stats(); stats.Open > 0 || stats.Waiting > 0 {
		return 0, false
	}
	s.cause = errUnused
	return s.lose(reasonIdle), true
}

// classify replaces a tunnel whose process does nothing any more.
func (processCheckDue) classify(s *Service) (event, bool) {
	if s.health.freezer.Frozen() {
		s.cause = &forwarder.Failure{Reason: "the tunnel fell silent: its process was stopped"}
		return s.lose(reasonFrozen), true
	}
	return 0, false
}

// classify takes a check's result. The tunnel is lost when it has fallen silent.
func (r checkOutcome) classify(s *Service) (event, bool) {
	h, hc := s.health, s.definition.HealthCheck
	h.running = false
	s.publish(func(st *status) { st.checked, st.latency = time.Now(), r.took })
	s.figures.countCheck(r)
	switch {
	case h.showTrouble():
		h.checkAfter(hc.Interval)
	case r.err == nil:
		h.onSuccess(hc)
	default:
		h.good = 0
		h.bad++
		if r.isSilence() && h.bad >= hc.FailureThreshold && time.Since(s.port.Stats().LastByte) > hc.Interval {
			s.cause = &forwarder.Failure{Reason: "the tunnel fell silent: no answer within " + hc.Timeout.String()}
			return s.lose(reasonSilent), true
		}
		h.onFailure(r, hc)
	}
	return 0, false
}

func (h *health) onSuccess(hc project.HealthCheck) {
	h.good++
	if h.good < hc.SuccessThreshold {
		h.checkAfter(firstRecheck)
		return
	}
	h.setHealthy()
	h.checkAfter(hc.Interval)
}

func (h *health) onFailure(r checkOutcome, hc project.HealthCheck) {
	var refusal *forwarder.Refusal
	if errors.As(r.err, &refusal) || h.bad >= hc.FailureThreshold || h.s.status.state != forwarder.Healthy {
		reason, hint := r.explain(hc.Timeout)
		h.s.setTrouble(forwarder.Unhealthy, reason, hint)
	}
	rechecks := wait.Backoff{First: firstRecheck, Max: min(hc.Interval, firstRecheck<<8)}
	h.checkAfter(rechecks.After(h.bad))
}

// onProof takes a client's success for a check's where a check would ask no more than that, or is not made at all while there
// are clients. Whether a database lets us in is for its own check to say.
func (h *health) onProof() {
	if !h.blocked && (h.s.definition.HealthCheck.Type == project.CheckTCP || h.isFragile()) {
		h.setHealthy()
	}
}

// onRefusal takes the tunnel's report of one connection: the tunnel is kept, and checked soon.
func (h *health) onRefusal(refusal forwarder.Refusal) {
	if !refusal.Connect {
		h.s.host.Log.Info("connection failed", "service", h.s.name, "reason", h.s.host.Mask(refusal.Reason))
		return
	}
	h.good = 0
	h.s.setTrouble(forwarder.Unhealthy, refusal.Reason, "")
	if !h.running && h.s.definition.check != nil {
		h.checkAfter(firstRecheck)
	}
}

// onRedefine goes on by a changed definition of the service.
func (h *health) onRedefine() {
	h.good, h.bad = 0, 0
	if h.s.definition.check == nil {
		h.timer.Stop()
		if !h.showTrouble() {
			h.setHealthy()
		}
	}
	h.checkSoon()
	if stats := h.s.port.Stats(); stats.Open+stats.Waiting == 0 {
		h.countIdle()
	}
}

// showTrouble shows what the tunnel itself says stands in the way of connections, and reports whether something does. Nothing is
// checked meanwhile.
func (h *health) showTrouble() bool {
	troubled, ok := h.tunnel.(forwarder.Troubled)
	if !ok {
		return false
	}
	trouble := troubled.Trouble()
	if h.blocked = trouble != nil; h.blocked {
		h.good = 0
		h.s.setTrouble(forwarder.Unhealthy, trouble.Reason, trouble.Hint)
	}
	return h.blocked
}

// setHealthy makes the service healthy: a check succeeded, or a client got an answer.
func (h *health) setHealthy() {
	h.bad = 0
	if h.s.status.state != forwarder.Healthy {
		h.s.setTrouble(forwarder.Healthy, "", "")
	}
}

func (h *health) isFragile() bool {
	_, fragile := h.tunnel.(forwarder.Fragile)
	return fragile
}

func (h *health) countIdle() {
	if h.s.definition.OnDemand {
		h.idle.Reset(h.s.definition.IdleTimeout)
	}
}

// checkSoon has the next check start at once.
func (h *health) checkSoon() {
	if !h.running && h.s.definition.check != nil {
		h.timer.Reset(0)
	}
}

// checkAfter has the next check start after a delay, less at most a tenth, so that services are not all checked together.
func (h *health) checkAfter(delay time.Duration) { h.timer.Reset(wait.SubtractJitter(delay, 0.1)) }

func (h *health) startCheck(ctx context.Context) {
	h.running = true
	s := h.s
	check, timeout := s.definition.check, s.definition.HealthCheck.Timeout
	path := probePath{s.port, h.tunnel, new(atomic.Bool), &s.host, s.definition.Addresses()[0]}
	s.job(func() {
		growStack()
		// Many services are not checked all at once.
		select {
		case s.host.Checks <- struct{}{}:
			defer func() { <-s.host.Checks }()
		case <-ctx.Done():
			h.results <- checkOutcome{err: ctx.Err()}
			return
		}
		h.results <- runCheck(ctx, check, timeout, path)
	})
}

// growStack makes room on the stack for a dial, in one step while there is next to nothing on it to move. A stack that grows while
// a dial is under way is moved frame by frame, by tables of the program that would be in memory for that alone (1.1 MB).
//
//go:noinline
func growStack() {
	var room [6 << 10]byte
	runtime.KeepAlive(&room)
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
		r.took, r.reached = time.Since(start), p.reached.Load()
	}()
	return checkOutcome{err: check(ctx, p)}
}

// isSilence reports whether nothing at all came back, as through a tunnel that is dead and does not know it. A far end that is
// slow, that refuses or that rejects our password has been reached: another tunnel would not help.
func (r checkOutcome) isSilence() bool {
	return errors.Is(r.err, context.DeadlineExceeded) && !r.reached
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
	case errors.Is(r.err, context.DeadlineExceeded) && r.reached:
		return fmt.Sprintf("no answer to the health check within %v", timeout), "is the service busy? health_check.timeout gives it more time"
	case errors.Is(r.err, context.DeadlineExceeded):
		return fmt.Sprintf("nothing came back within %v", timeout), ""
	}
	return r.err.Error(), ""
}
