package native

import (
	"context"
	"time"
)

// The pace of pings. They go to the pod's node and back, so that an answer proves the whole way.
const (
	pingInterval     = 5 * time.Second  // of silence under clients
	idlePingInterval = 15 * time.Second // of silence where nobody waits: the next client finds out by itself
	pingTimeout      = 4 * time.Second  // after a ping that is too much
)

// pingQuietUpstreams pings the upstreams on which nothing was heard for a while, and closes those that do not answer.
func (t *tunnel) pingQuietUpstreams() {
	for _, u := range t.pool.quietUpstreams() {
		t.startPing(u)
	}
}

// Doubt pings every upstream.
func (t *tunnel) Doubt() {
	for _, u := range t.upstreams() {
		t.startPing(u)
	}
}

// startPing pings an upstream, unless that is being done.
func (t *tunnel) startPing(u *upstream) {
	if !u.isPinging.Swap(true) {
		t.goTask(func(ctx context.Context) { t.ping(ctx, u) })
	}
}

// quietUpstreams are the upstreams on which nothing was heard for long.
func (p *pool) quietUpstreams() []*upstream {
	p.mu.Lock()
	defer p.mu.Unlock()
	var quiet []*upstream
	for u := range p.upstreams {
		interval := pingInterval
		if u.clients+u.leaving == 0 {
			interval = idlePingInterval
		}
		if time.Since(u.LastReceived()) >= interval-time.Second {
			quiet = append(quiet, u)
		}
	}
	return quiet
}

func (t *tunnel) ping(ctx context.Context, u *upstream) {
	defer u.isPinging.Store(false)
	sent := time.Now()
	answered := u.Ping()
	for {
		timer := time.NewTimer(pingTimeout)
		select {
		case <-answered:
			timer.Stop()
			return
		case <-u.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if u.LastReceived().After(sent) {
			sent = time.Now() // it is slow, not silent
			continue
		}
		// A pod that takes nothing holds its pings up like its bytes; then the server itself has to be asked.
		if u.IsBackedUp() && t.session.Probe(ctx) == nil {
			continue
		}
		t.session.StartProbe()
		u.Fail(errSilent)
		t.closeUpstream(u)
		return
	}
}
