package relay

import (
	"slices"
	"time"
)

// enqueueClient puts a client into the queue. It returns true if the client need not wait: it is admitted or dropped.
func (r *Relay) enqueueClient(c *client) bool {
	isDecided, needsTunnel := r.insertIntoQueue(c, time.Now())
	if needsTunnel {
		r.options.OnWaiting()
	}
	return isDecided
}

func (r *Relay) insertIntoQueue(c *client, now time.Time) (isDecided, needsTunnel bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.isClosed || r.isRejecting || c.isDropped || !now.Before(c.connectDeadline):
		r.markDropped(c)
		return true, false
	case r.attached != nil && !r.attached.isSuspect && r.limit.startServing(c):
		c.tunnelState = r.attached
		return true, false
	}
	r.counters.startWaiting(c, now)
	_ = c.conn.SetReadDeadline(c.connectDeadline)
	i, _ := slices.BinarySearchFunc(r.waitQueue, c, func(a, b *client) int { return a.arrivedAt.Compare(b.arrivedAt) })
	r.waitQueue = slices.Insert(r.waitQueue, i, c)
	r.admitClients(now)
	return false, r.attached == nil
}

// admitClients admits the queued clients to the attached tunnel: all that may be served, or one trial client at a time
// while the tunnel is suspect.
func (r *Relay) admitClients(now time.Time) {
	if r.attached == nil || r.isRejecting {
		return
	}
	defer r.startReport(now)
	if !r.attached.isSuspect {
		r.admitQueued()
		return
	}
	if r.attached.canStartTrial(now) {
		if c := r.takeTrialClient(); c != nil {
			r.attached.trialClient, c.tunnelState = c, r.attached
			c.interruptRead()
		}
	}
	r.attached.resetTimer(len(r.waitQueue) > 0)
}

// finishWaiting ends the wait of a client whose read was interrupted. It returns false if the client has to wait on.
func (r *Relay) finishWaiting(c *client) bool {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.tunnelState == nil && !c.isDropped && now.Before(c.connectDeadline) {
		_ = c.conn.SetReadDeadline(c.connectDeadline)
		return false
	}
	if c.tunnelState == nil {
		if !c.isDropped && !c.isServed && r.attached != nil && r.limit.isReached() {
			r.counters.shortageResets++
		}
		r.removeFromQueue(c)
		r.markDropped(c)
	}
	c.clearInterrupt()
	r.counters.waitTime += now.Sub(c.waitingSince)
	return true
}

func (r *Relay) isAdmitted(c *client) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return c.tunnelState != nil
}

// markDropped records that a client will be reset by its own goroutine.
func (r *Relay) markDropped(c *client) {
	c.isDropped = true
	r.counters.setState(c, stateResetting)
}

// withdrawClient removes a client that disconnected while it waited. It may have been admitted at the same moment.
func (r *Relay) withdrawClient(c *client) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.removeFromQueue(c)
	r.counters.setState(c, stateResetting)
	r.counters.waitTime += now.Sub(c.waitingSince)
	r.releaseTunnel(c, now)
}

// releaseTunnel ends a client's use of its tunnel. If it was the trial client, the next one can be tried.
func (r *Relay) releaseTunnel(c *client, now time.Time) {
	ts := c.tunnelState
	c.tunnelState = nil
	if ts != nil && ts.trialClient == c {
		ts.endTrial()
		if ts == r.attached {
			r.admitClients(now)
		}
	}
}
