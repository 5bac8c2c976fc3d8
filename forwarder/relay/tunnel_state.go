package relay

import (
	"slices"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/wait"
)

// timing holds the durations that tests shorten.
type timing struct {
	reportWindow     time.Duration // how long after an early end the tunnel may report why; a trial client that stays connected as long clears its tunnel
	minTrialDelay    time.Duration // between two trial clients; doubles with each refusal
	maxTrialDelay    time.Duration // the longest such delay
	shortageHoldTime time.Duration // how long no acceptor must have waited until a shortage is over
	limitHoldTime    time.Duration // how long no client must have waited until max_connections is not reached any more
}

var defaultTiming = timing{
	reportWindow: time.Second, minTrialDelay: 100 * time.Millisecond, maxTrialDelay: time.Second,
	shortageHoldTime: time.Second, limitHoldTime: 10 * time.Second,
}

// tunnelState is what the relay knows of a tunnel, from the first Attach until the tunnel is done. The relay's mu guards
// its fields.
//
// After a refusal a tunnel is suspect, and is tried like a circuit breaker that is half-open: only one client at a time, the
// trial client, is dialed, so that the connection that a further refusal is about is certain.
type tunnelState struct {
	tunnel       forwarder.Tunnel
	pendingConns *pendingConns
	timing       timing
	doneCh       chan struct{} // closed when the tunnel is done and its last refusals have been handled
	timer        *time.Timer   // fires in watchTunnel at trialPassesAt or nextTrialAt

	isSuspect     bool
	refusalCount  int       // the refusal that made it suspect, and those of trial clients since
	nextTrialAt   time.Time // when the next trial client may be dialed
	trialClient   *client   // nil: none
	trialPassesAt time.Time // when the trial client will have stayed connected long enough; zero: it is not connected
}

func newTunnelState(tunnel forwarder.Tunnel, t timing) *tunnelState {
	ts := &tunnelState{
		tunnel: tunnel, pendingConns: newPendingConns(t.reportWindow), timing: t, doneCh: make(chan struct{}), timer: time.NewTimer(0),
	}
	ts.timer.Stop()
	return ts
}

func (ts *tunnelState) currentTunnel() forwarder.Tunnel { return ts.tunnel }

func (ts *tunnelState) isDone() bool { return wait.IsClosed(ts.doneCh) }

func (ts *tunnelState) clearSuspicion() {
	ts.isSuspect = false
	ts.endTrial()
}

// recordRefusal makes the tunnel suspect. c is the client whose attempt was refused; nil: a health check's, or not known.
func (ts *tunnelState) recordRefusal(c *client, now time.Time) {
	switch {
	case !ts.isSuspect:
		ts.isSuspect, ts.refusalCount = true, 1
	case c != nil && ts.trialClient == c:
		ts.refusalCount++
	}
	trialBackoff := wait.Backoff{First: ts.timing.minTrialDelay, Max: ts.timing.maxTrialDelay, Jitter: 0.25}
	ts.nextTrialAt = now.Add(trialBackoff.After(ts.refusalCount))
}

func (ts *tunnelState) endTrial() {
	ts.trialClient, ts.trialPassesAt = nil, time.Time{}
	ts.timer.Stop()
}

func (ts *tunnelState) canStartTrial(now time.Time) bool {
	return ts.trialClient == nil && !now.Before(ts.nextTrialAt)
}

// recordConnected records that a client is connected. A trial client that stays connected clears the suspicion.
func (ts *tunnelState) recordConnected(c *client, now time.Time) {
	if ts.trialClient == c {
		ts.trialPassesAt = now.Add(ts.timing.reportWindow)
		ts.resetTimer(false)
	}
}

// recordEarlyEnd records that a client's connection has ended before a byte came back.
func (ts *tunnelState) recordEarlyEnd(c *client) {
	if ts.trialClient == c {
		ts.trialPassesAt = time.Time{}
		ts.timer.Stop()
	}
}

// resetTimer sets the timer to what is due next.
func (ts *tunnelState) resetTimer(hasQueued bool) {
	switch {
	case !ts.trialPassesAt.IsZero():
		ts.timer.Reset(time.Until(ts.trialPassesAt))
	case ts.isSuspect && ts.trialClient == nil && hasQueued:
		ts.timer.Reset(time.Until(ts.nextTrialAt))
	}
}

// watchTunnel handles a tunnel's refusals until it is done or the relay is closed.
func (r *Relay) watchTunnel(ts *tunnelState) {
	defer ts.timer.Stop()
	refusals := ts.tunnel.Refusals()
	for {
		select {
		case refusal := <-refusals:
			r.handleRefusal(ts, refusal)
		case <-ts.timer.C:
			r.handleTimer(ts)
		case <-ts.tunnel.Done():
			r.drainRefusals(ts, refusals)
			r.forgetTunnel(ts)
			return
		case <-r.closingCh:
			return
		}
	}
}

// handleTimer clears the suspicion if the trial client has stayed connected, or admits the next one.
func (r *Relay) handleTimer(ts *tunnelState) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !ts.trialPassesAt.IsZero() && !now.Before(ts.trialPassesAt) {
		ts.clearSuspicion()
	}
	if ts == r.attached {
		r.admitClients(now)
	}
}

// drainRefusals handles the refusals that the tunnel reported before it ended: they are more precise than its end.
func (r *Relay) drainRefusals(ts *tunnelState, refusals <-chan forwarder.Refusal) {
	for {
		select {
		case refusal := <-refusals:
			r.handleRefusal(ts, refusal)
		default:
			return
		}
	}
}

func (r *Relay) handleRefusal(ts *tunnelState, refusal forwarder.Refusal) {
	now := time.Now()
	r.mu.Lock()
	ts.pendingConns.assignRefusal(refusal, now)
	if refusal.IsConnectFailure {
		ts.recordRefusal(nil, now)
	}
	r.mu.Unlock()
	r.options.OnRefusal(ts.tunnel, refusal)
}

// forgetTunnel removes a tunnel that is done, or whose refusals cannot be read after a panic.
func (r *Relay) forgetTunnel(ts *tunnelState) {
	r.mu.Lock()
	if ts.isDone() { // called again because OnWaiting panicked
		r.mu.Unlock()
		return
	}
	r.tunnels = slices.DeleteFunc(r.tunnels, func(other *tunnelState) bool { return other == ts })
	hasWaiting := false
	if r.attached == ts {
		r.detachCurrent()
		hasWaiting = len(r.waitQueue) > 0
	}
	close(ts.doneCh)
	r.mu.Unlock()
	if hasWaiting {
		r.options.OnWaiting()
	}
}
