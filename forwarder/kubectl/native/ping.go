package native

import (
	"context"
	"time"

	"github.com/localport-sh/localport/forwarder/wait"
)

// Intervals of pings. The pod's node replies, so that a reply proves the whole path.
const (
	pingInterval     = 5 * time.Second  // without a frame, on an upstream with clients
	idlePingInterval = 15 * time.Second // on an upstream without clients: the next client notices by itself
	pingTimeout      = 4 * time.Second  // without a frame after a ping
)

// pingQuietUpstreams pings the upstreams that have received nothing for a while. Those that do not respond are closed.
func (t *tunnel) pingQuietUpstreams() {
	for _, u := range t.pool.quietUpstreams() {
		t.startPing(u)
	}
}

// CheckConnection implements forwarder.ConnectionChecker: it pings every upstream.
func (t *tunnel) CheckConnection() {
	for _, u := range t.upstreams() {
		t.startPing(u)
	}
}

// startPing pings an upstream in the background, unless a ping is in progress.
func (t *tunnel) startPing(u *upstream) {
	if !u.isPinging.Swap(true) {
		t.goTask(func(ctx context.Context) { t.ping(ctx, u) })
	}
}

// quietUpstreams returns the upstreams that have received nothing for their ping interval.
func (p *pool) quietUpstreams() []*upstream {
	p.mu.Lock()
	defer p.mu.Unlock()
	var quiet []*upstream
	for u := range p.upstreams {
		interval := pingInterval
		if u.clients+u.halfClosedClients == 0 {
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
		waitingSince := time.Now()
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
			sent = time.Now() // slow, but alive
			continue
		}
		if wait.WasSuspended(waitingSince, pingTimeout) {
			continue // the answer may have come in time
		}
		// A pod that does not read blocks pings like data; then a request to the API server tells whether the path works.
		if u.IsBackedUp() && t.session.Probe(ctx) == nil {
			continue
		}
		t.session.StartProbe()
		u.Fail(errUnresponsive)
		t.closeUpstream(u)
		return
	}
}
