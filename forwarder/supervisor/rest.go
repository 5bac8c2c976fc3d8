package supervisor

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// rest is what a forward does between two attempts.
type rest struct {
	kind restKind
	wait time.Duration // of backoff
}

type restKind int

const (
	now     restKind = iota // no rest: the next attempt is due
	asleep                  // on demand: until a client comes
	backoff                 // until the time is over, or a client comes
	barred                  // permanent, or used up: an order, or one attempt for a client
	helped                  // only the user can help: an order
)

// state is the state that a forward shows while it rests.
func (r rest) state(f *forward) forwarder.State {
	switch r.kind {
	case asleep:
		return forwarder.Idle
	case barred:
		return forwarder.Failed
	case helped:
		return forwarder.NeedsAttention
	case backoff:
		return forwarder.Restarting
	}
	return f.working()
}

// await returns true when the next attempt is due, false when the forward is to end.
func (f *forward) await(ctx context.Context) bool {
	if f.rest.kind == now {
		return ctx.Err() == nil
	}
	var due <-chan time.Time
	if f.rest.kind == backoff {
		timer := time.NewTimer(f.rest.wait)
		defer timer.Stop()
		due = timer.C
	}
	// A client may have begun to wait while the last tunnel was going.
	if f.relay.Stats().Waiting > 0 {
		nudge(f.waiting)
	}
	for {
		select {
		case <-ctx.Done():
			return false
		case o := <-f.orders:
			err := f.obey(o)
			if err == nil && f.rest.kind == asleep {
				continue
			}
			if err != nil && !errors.Is(err, errOrdered) {
				f.settle(err)
				continue
			}
			f.relay.Hold()
			return true
		case <-due:
			return true
		case <-f.woken:
			if f.rest.kind == backoff || f.rest.kind == barred {
				f.urgent = true
				return true
			}
		case <-f.waiting:
			early := attemptPace - time.Since(f.tried)
			switch {
			case f.rest.kind == helped:
			case early <= 0:
				f.urgent = true
				return true
			case f.rest.kind == barred:
				f.relay.DropWaiting()
			default:
				f.urgent = true
				due = time.After(early)
			}
		}
	}
}

// settle decides what comes after an attempt that ended with err.
func (f *forward) settle(err error) {
	target := f.drivers.target(f.svc) // which an opening that failed may have found out
	f.publish(func(s *status) { s.upSince, s.target = time.Time{}, target })
	switch {
	case errors.Is(err, errOrdered):
		f.rest = rest{kind: now}
		f.enter(forwarder.Restarting)
		return
	case errors.Is(err, errAnew):
		f.rest, f.urgent = rest{kind: now}, true
		return
	case errors.Is(err, errQuiet):
		f.rest = rest{kind: asleep}
		f.enter(forwarder.Idle)
		return
	}
	failure := &forwarder.Failure{Reason: err.Error()}
	errors.As(err, &failure)
	f.failures++
	f.rest = f.after(failure)
	f.mu.Lock()
	f.status.failures = f.failures
	f.mu.Unlock()
	f.log.Warn("tunnel ended", "service", f.svc.Name, "reason", f.mask(failure.Reason), "failures", f.failures, "tunnel", f.status.run)
	f.trouble(f.rest.state(f), failure.Reason, failure.Hint)
	switch f.rest.kind {
	case helped:
		f.relay.Reject()
	case barred:
		f.relay.DropWaiting()
	}
}

// unhelped is why a login came to nothing: whatever it was, the next attempt needs the user again.
func unhelped(err error) error {
	failure, ok := errors.AsType[*forwarder.Failure](err)
	if !ok || failure.Class != forwarder.Transient {
		return err
	}
	hint := cmp.Or(failure.Hint, "when that is over: localport login")
	return &forwarder.Failure{Class: forwarder.ByAttention, Reason: failure.Reason, Hint: hint}
}

// after is the rest that a failure asks for.
func (f *forward) after(failure *forwarder.Failure) rest {
	policy := f.svc.RestartPolicy
	switch {
	case failure.Class == forwarder.ByAttention:
		return rest{kind: helped}
	case failure.Class == forwarder.Permanent, !policy.Enabled,
		policy.MaxAttempts > 0 && f.failures >= policy.MaxAttempts:
		return rest{kind: barred}
	case f.svc.OnDemand && f.relay.Stats().Waiting == 0:
		return rest{kind: asleep}
	}
	return rest{kind: backoff, wait: delay(policy, f.failures)}
}
