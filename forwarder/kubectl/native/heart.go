package native

import (
	"context"
	"time"
)

// The pace of pings. They go to the pod's node and back, so that an answer proves the whole way.
const (
	beat     = 5 * time.Second  // of silence under clients
	idleBeat = 15 * time.Second // of silence where nobody waits: the next client finds out by itself
	silence  = 4 * time.Second  // after a ping that is too much
)

// pulse pings the upstreams on which nothing was heard for a while, and closes those that do not answer.
func (t *tunnel) pulse() {
	for _, u := range t.pool.quiet() {
		t.ask(u)
	}
}

// Doubt pings every upstream.
func (t *tunnel) Doubt() {
	for _, u := range t.upstreams() {
		t.ask(u)
	}
}

// ask pings an upstream, unless that is being done.
func (t *tunnel) ask(u *upstream) {
	if !u.pinged.Swap(true) {
		t.goes(func(ctx context.Context) { t.ping(ctx, u) })
	}
}

// quiet are the upstreams on which nothing was heard for long.
func (p *pool) quiet() []*upstream {
	p.mu.Lock()
	defer p.mu.Unlock()
	var quiet []*upstream
	for u := range p.all {
		pause := beat
		if u.clients+u.leaving == 0 {
			pause = idleBeat
		}
		if time.Since(u.Heard()) >= pause-time.Second {
			quiet = append(quiet, u)
		}
	}
	return quiet
}

func (t *tunnel) ping(ctx context.Context, u *upstream) {
	defer u.pinged.Store(false)
	sent := time.Now()
	answered := u.Ping()
	for {
		timer := time.NewTimer(silence)
		select {
		case <-answered:
			timer.Stop()
			return
		case <-u.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if u.Heard().After(sent) {
			sent = time.Now() // it is slow, not silent
			continue
		}
		// A pod that takes nothing holds its pings up like its bytes; then the server itself has to be asked.
		if u.Backed() && t.session.Alive(ctx) == nil {
			continue
		}
		t.session.Suspect()
		u.Fail(errSilent)
		t.drop(u)
		return
	}
}
