package relay

import (
	"slices"
	"time"
)

// queueUp lets a client wait for a tunnel. It is true when there is nothing to wait for: the client is admitted or
// dropped.
func (r *Relay) queueUp(c *client) bool {
	settled, stranded := r.enqueue(c, time.Now())
	if stranded {
		r.options.OnWaiting()
	}
	return settled
}

func (r *Relay) enqueue(c *client, now time.Time) (settled, stranded bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed || r.rejecting || c.dropped || !now.Before(c.deadline):
		r.drop(c)
		return true, false
	case r.link != nil && !r.link.suspect:
		c.link = r.link
		return true, false
	}
	r.figures.waits(c, now)
	_ = c.conn.SetReadDeadline(c.deadline)
	at, _ := slices.BinarySearchFunc(r.queue, c, func(a, b *client) int { return a.accepted.Compare(b.accepted) })
	r.queue = slices.Insert(r.queue, at, c)
	r.admit(now)
	return false, r.link == nil
}

// admit lets go whoever may: all, or one scout at a time while the tunnel is suspect.
func (r *Relay) admit(now time.Time) {
	if r.link == nil || r.rejecting {
		return
	}
	if !r.link.suspect {
		for _, c := range r.queue {
			c.link = r.link
			c.wake()
		}
		r.queue = nil
		return
	}
	if len(r.queue) > 0 && r.link.mayScout(now) {
		c := r.queue[0]
		r.queue = slices.Delete(r.queue, 0, 1)
		r.link.scout, c.link = c, r.link
		c.wake()
	}
	r.link.schedule(len(r.queue) > 0)
}

// decided is true when a woken client need not wait any longer.
func (r *Relay) decided(c *client) bool {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.link == nil && !c.dropped && now.Before(c.deadline) {
		_ = c.conn.SetReadDeadline(c.deadline)
		return false
	}
	if c.link == nil {
		r.forget(c)
		r.drop(c)
	}
	c.unwake()
	r.figures.waitTime += now.Sub(c.since)
	return true
}

func (r *Relay) admitted(c *client) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return c.link != nil
}

// drop decides that a client is to be reset.
func (r *Relay) drop(c *client) {
	c.dropped = true
	r.figures.move(c, leaving)
}

// withdraw takes out a client that left while it waited, though it may have been admitted that very moment.
func (r *Relay) withdraw(c *client) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(c)
	r.figures.move(c, leaving)
	r.figures.waitTime += now.Sub(c.since)
	r.release(c, now)
}

// release takes a client off its link. A scout makes room for another.
func (r *Relay) release(c *client, now time.Time) {
	l := c.link
	c.link = nil
	if l != nil && l.scout == c {
		l.dismiss()
		if l == r.link {
			r.admit(now)
		}
	}
}
