package supervisor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/project"
)

// carry hands the tunnel to the relay and watches over it until it ends: by itself, by an order, because it fell
// silent, or because an on-demand service is not used any more. The tunnel is closed when it returns.
func (f *forward) carry(ctx context.Context, tunnel forwarder.Tunnel) error {
	began := time.Now()
	f.why = reasonEnded
	// kubectl knows its context and namespace only now.
	target := f.drivers.target(f.svc)
	f.publish(func(s *status) { s.upSince, s.target = began, target })
	f.relay.Attach(tunnel)
	defer func() { _ = tunnel.Close() }()
	defer f.relay.Detach(tunnel)
	defer func() {
		if time.Since(began) >= stable {
			f.failures = 0
		}
	}()

	w := f.health(ctx, tunnel)
	defer w.end()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case o := <-f.orders:
			if err := f.obey(o); err != nil {
				return err
			}
			w.adopt()
		case <-tunnel.Done():
			f.takeRefusals(w)
			return ended(tunnel)
		case failure := <-f.broke:
			return failure
		case refusal := <-f.refused:
			w.refusedBy(refusal)
		case <-f.proved:
			w.proved()
		case <-w.due():
			w.check()
		case result := <-w.results:
			if err := w.took(result); err != nil {
				return err
			}
		case <-f.quiet:
			w.rearm()
		case <-w.changed:
			w.lookedAt()
		case <-f.waiting: // it goes through the tunnel by itself
		case <-f.woken: // what the tunnel led to may be gone
			if doubter, ok := tunnel.(forwarder.Doubter); ok {
				doubter.Doubt()
			}
			w.soon()
		case <-w.pulse.C:
			if err := w.frozen(); err != nil {
				return err
			}
		case <-w.idle.C:
			if err := w.unused(); err != nil {
				return err
			}
		}
	}
}

// ended is why a tunnel ended by itself.
func ended(tunnel forwarder.Tunnel) error {
	if err := tunnel.Err(); err != nil {
		return err
	}
	return &forwarder.Failure{Reason: "the tunnel ended"}
}

// takeRefusals takes what the tunnel said before it ended, so that status shows it rather than the end alone.
func (f *forward) takeRefusals(w *health) {
	for {
		select {
		case refusal := <-f.refused:
			w.refusedBy(refusal)
		default:
			return
		}
	}
}

// health is how a tunnel is doing, and when it is asked next.
type health struct {
	f       *forward
	tunnel  forwarder.Tunnel
	ctx     context.Context
	cancel  context.CancelFunc
	timer   *time.Timer // of the next check
	idle    *time.Timer // of idle_timeout; stopped unless the service is on demand
	pulse   *time.Ticker
	changed <-chan struct{} // the tunnel may be in trouble, or out of it; nil: it never says so
	hinder  bool            // it said so last
	busy    bool            // a check is under way
	results chan result
	good    int // checks in a row
	bad     int
}

type result struct {
	err     error
	took    time.Duration
	reached bool // the far end was there, whatever it said
}

// pulse is how often a tunnel's process is looked at.
const pulse = 5 * time.Second

// recheck is the first delay before an unhealthy service is checked again; it doubles up to the interval.
const recheck = time.Second

func (f *forward) health(ctx context.Context, tunnel forwarder.Tunnel) *health {
	w := &health{f: f, tunnel: tunnel, results: make(chan result, 1), timer: time.NewTimer(0)}
	w.ctx, w.cancel = context.WithCancel(ctx)
	w.idle = time.NewTimer(f.svc.IdleTimeout)
	w.pulse = time.NewTicker(pulse)
	if !f.svc.OnDemand {
		w.idle.Stop()
	}
	if troubled, ok := tunnel.(forwarder.Troubled); ok {
		w.changed = troubled.Changed()
	}
	if f.check == nil {
		w.timer.Stop()
	}
	if !w.hindered() && f.check == nil {
		w.well()
	}
	return w
}

// hindered takes what the tunnel itself says stands in the way of connections. Nothing is checked meanwhile.
func (w *health) hindered() bool {
	troubled, ok := w.tunnel.(forwarder.Troubled)
	if !ok {
		return false
	}
	trouble := troubled.Trouble()
	if w.hinder = trouble != nil; w.hinder {
		w.good = 0
		w.unwell(trouble.Reason, trouble.Hint)
	}
	return w.hinder
}

// lookedAt takes a change of what the tunnel says of itself.
func (w *health) lookedAt() {
	was := w.hinder
	switch {
	case w.hindered() || !was:
	case w.f.check == nil:
		w.well()
	default:
		w.soon()
	}
}

// end returns when no check is under way any more.
func (w *health) end() {
	w.cancel()
	w.timer.Stop()
	w.idle.Stop()
	w.pulse.Stop()
	if w.busy {
		<-w.results
	}
}

// due is when a check may begin: never while one is under way.
func (w *health) due() <-chan time.Time {
	if w.busy {
		return nil
	}
	return w.timer.C
}

// check begins a check. A tunnel that a refused connection would end is spared while it has clients: they are the
// better probe.
func (w *health) check() {
	if stats := w.f.relay.Stats(); w.fragile() && stats.Open+stats.Waiting > 0 {
		w.again(recheck)
		return
	}
	if w.hindered() {
		w.again(w.f.svc.HealthCheck.Interval)
		return
	}
	w.busy = true
	check, timeout := w.f.check, w.f.svc.HealthCheck.Timeout
	path := path{w.f.relay, w.tunnel, new(atomic.Bool), w.f.host, w.f.svc.Addresses()[0]}
	go func() {
		// Many services are not asked all at once.
		select {
		case w.f.checks <- struct{}{}:
			defer func() { <-w.f.checks }()
		case <-w.ctx.Done():
			w.results <- result{err: w.ctx.Err()}
			return
		}
		w.results <- ask(w.ctx, check, timeout, path)
	}()
}

// ask runs a check once. One that panics has failed; its service is none the worse for it.
func ask(ctx context.Context, check probe.Check, timeout time.Duration, p path) (r result) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	began := time.Now()
	defer func() {
		if trouble := recover(); trouble != nil {
			r.err = fmt.Errorf("the check broke: %v", trouble)
		}
		r.took, r.reached = time.Since(began), p.reached.Load()
	}()
	return result{err: check(ctx, p)}
}

// adopt goes on under a changed definition of the service.
func (w *health) adopt() {
	w.good, w.bad = 0, 0
	if w.f.check == nil {
		w.timer.Stop()
		if !w.hindered() {
			w.well()
		}
	}
	w.soon()
	if stats := w.f.relay.Stats(); stats.Open+stats.Waiting == 0 {
		w.rearm()
	}
}

// soon has the next check made at once.
func (w *health) soon() {
	if !w.busy && w.f.check != nil {
		w.timer.Reset(0)
	}
}

func (w *health) fragile() bool {
	_, is := w.tunnel.(forwarder.Fragile)
	return is
}

func (w *health) again(after time.Duration) {
	w.timer.Reset(after - rand.N(after/10+1))
}

// took takes a check's result. Its error is not nil when the tunnel has fallen silent and is to be replaced.
func (w *health) took(r result) error {
	w.busy = false
	w.f.publish(func(s *status) { s.checked, s.latency = time.Now(), r.took })
	w.f.counted(r)
	hc := w.f.svc.HealthCheck
	if w.hindered() {
		w.again(hc.Interval)
		return nil
	}
	if r.err == nil {
		w.good++
		if w.good >= hc.SuccessThreshold {
			w.well()
			w.again(hc.Interval)
			return nil
		}
		w.again(recheck)
		return nil
	}
	w.good = 0
	w.bad++
	if w.silent(r) && w.bad >= hc.FailureThreshold && time.Since(w.f.relay.Stats().LastByte) > hc.Interval {
		w.f.why = reasonSilent
		return &forwarder.Failure{Reason: "the tunnel fell silent: no answer within " + hc.Timeout.String()}
	}
	var refusal *forwarder.Refusal
	if errors.As(r.err, &refusal) || w.bad >= hc.FailureThreshold || w.f.state() != forwarder.Healthy {
		w.unwell(complaint(r, hc.Timeout))
	}
	w.again(min(recheck<<min(w.bad-1, 8), hc.Interval))
	return nil
}

// counted puts a check into the figures.
func (f *forward) counted(r result) {
	f.latencies.Observe(r.took)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.results == nil {
		f.results = make(map[string]uint64)
	}
	f.results[resultOf(r.err)]++
}

// silent reports whether nothing at all came back, as through a tunnel that is dead and does not know it. A far end that
// is slow, that refuses or that turns our password down has been reached: another tunnel would be none the better.
func (w *health) silent(r result) bool {
	return errors.Is(r.err, context.DeadlineExceeded) && !r.reached
}

// complaint is what a bad check has to say, and what to do about it.
func complaint(r result, timeout time.Duration) (reason, hint string) {
	var failure *probe.Failure
	var hindrance *forwarder.Failure
	switch {
	case errors.As(r.err, &hindrance):
		return hindrance.Reason, hindrance.Hint
	case errors.As(r.err, &failure):
		return failure.Reason, failure.Hint
	case errors.Is(r.err, context.DeadlineExceeded) && r.reached:
		return fmt.Sprintf("no answer to the health check within %v", timeout), "is the service busy? health_check.timeout gives it more time"
	case errors.Is(r.err, context.DeadlineExceeded):
		return fmt.Sprintf("nothing came back within %v", timeout), ""
	}
	return r.err.Error(), ""
}

// well makes the service healthy: a check was well, or a client got an answer.
func (w *health) well() {
	w.bad = 0
	if w.f.state() == forwarder.Healthy {
		return
	}
	w.f.trouble(forwarder.Healthy, "", "")
}

// proved takes a client's success for a check's where a check would ask no more than that, or is not made at all while
// there are clients. Whether a database lets us in is for its own check to say.
func (w *health) proved() {
	if !w.hinder && (w.f.svc.HealthCheck.Type == project.CheckTCP || w.fragile()) {
		w.well()
	}
}

func (w *health) unwell(reason, hint string) { w.f.trouble(forwarder.Unhealthy, reason, hint) }

// refusedBy takes the tunnel's report of one connection: the tunnel is kept, and asked again soon.
func (w *health) refusedBy(refusal forwarder.Refusal) {
	if !refusal.Connect {
		w.f.log.Info("connection failed", "service", w.f.svc.Name, "reason", w.f.mask(refusal.Reason))
		return
	}
	w.good = 0
	w.unwell(refusal.Reason, "")
	if !w.busy && w.f.check != nil {
		w.again(recheck)
	}
}

// frozen says that the tunnel is to be replaced because its process does nothing any more.
func (w *health) frozen() error {
	if process, ok := w.tunnel.(forwarder.Freezer); ok && process.Frozen() {
		w.f.why = reasonFrozen
		return &forwarder.Failure{Reason: "the tunnel fell silent: its process was stopped"}
	}
	return nil
}

// rearm begins to count an on-demand service's idle time.
func (w *health) rearm() {
	if w.f.svc.OnDemand {
		w.idle.Reset(w.f.svc.IdleTimeout)
	}
}

// unused says that the tunnel is to be closed, unless a client has come in the meantime.
func (w *health) unused() error {
	if stats := w.f.relay.Stats(); stats.Open > 0 || stats.Waiting > 0 {
		return nil // its leaving will begin the count anew
	}
	w.f.why = reasonIdle
	return errQuiet
}

func (f *forward) state() forwarder.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status.state
}
