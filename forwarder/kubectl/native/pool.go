package native

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder/kubectl/spdy"
	"github.com/localport-sh/localport/forwarder/wait"
)

// Limits of a pool.
const (
	// cheapDialTime is the dial time up to which each client gets its own upstream. If opening one takes longer, clients share, and
	// more upstreams are kept warm.
	cheapDialTime = 30 * time.Millisecond
	// maxWarmUpstreams is how many idle upstreams are kept ready at most.
	maxWarmUpstreams = 4
	// maxClientsPerUpstream is how many clients share an upstream at most.
	maxClientsPerUpstream = 32
	// maxDialsPerPod is how many upstreams to a pod are opened for clients concurrently. After an outage many clients come at once;
	// with a handshake for each of them, all would be slow, time out and start again.
	maxDialsPerPod = 32
	// idleUpstreamTTL is how long idle upstreams beyond the warm ones are kept.
	idleUpstreamTTL = 30 * time.Second
	// replacementDelay is how long after a client has acquired a warm upstream it is replaced, if it has not been released by then.
	replacementDelay = 100 * time.Millisecond
	// maxQueuedBytes is how many received bytes are queued for a client that does not read.
	maxQueuedBytes = 256 << 10
)

// pool holds the upstreams of a tunnel. Each client gets its own, because on a shared one all wait for the slowest client; only a
// burst of clients of a distant cluster shares.
type pool struct {
	mu                     sync.Mutex
	upstreams              map[*upstream]struct{}
	isClosed               bool
	clientDials            map[string]int // upstreams being opened for clients, by the pod's uid
	slotFreed              wait.Broadcast // announced when a client that waits in acquire may try again
	warmDials              int            // upstreams being opened to be kept warm
	isReplacementScheduled bool           // a goroutine waits for replacementDelay
	dialTime               time.Duration  // moving average of the time to open an upstream
}

// warmTarget is how many idle upstreams to keep ready. p.mu is held.
func (p *pool) warmTarget() int {
	return min(maxWarmUpstreams, 1+int(p.dialTime/(2*cheapDialTime)))
}

// acquire returns an open upstream to the pod for a client. If both results are nil, the client opens one itself and then calls
// endClientDial. If maxDialsPerPod are being opened, it returns a channel: when it is closed, or the pods change, the client tries
// again.
func (p *pool) acquire(uid string) (u *upstream, slotFreed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.leastLoaded(uid); u != nil {
		u.clients++
		u.SetShared(u.clients+u.halfClosedClients > 1)
		return u, nil
	}
	if p.clientDials[uid] < maxDialsPerPod {
		p.clientDials[uid]++
		return nil, nil
	}
	return nil, p.slotFreed.Changed()
}

// leastLoaded returns the upstream for the next client; nil if it needs a new one. p.mu is held.
func (p *pool) leastLoaded(uid string) *upstream {
	var best *upstream
	for u := range p.upstreams {
		if u.uid != uid || u.hasEnded() || u.isDraining || u.halfClosedClients >= 2*maxClientsPerUpstream || u.IsCongested() {
			continue
		}
		if best == nil || u.clients < best.clients || u.clients == best.clients && u.halfClosedClients < best.halfClosedClients {
			best = u
		}
	}
	if best == nil || best.clients > 0 && (p.dialTime < cheapDialTime || best.clients >= maxClientsPerUpstream) {
		return nil
	}
	return best
}

// hasClients reports whether a client is connected, or is being connected.
func (p *pool) hasClients() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for u := range p.upstreams {
		if u.clients+u.halfClosedClients > 0 {
			return true
		}
	}
	return len(p.clientDials) > 0
}

// endClientDial is called when opening an upstream for a client has succeeded or failed.
func (p *pool) endClientDial(uid string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.clientDials[uid]--; p.clientDials[uid] == 0 {
		delete(p.clientDials, uid)
	}
	p.slotFreed.Announce()
}

func (u *upstream) hasEnded() bool { return wait.IsClosed(u.Done()) }

// dialUpstream opens an upstream to a pod.
func (t *tunnel) dialUpstream(ctx context.Context, dest destination, clients int) (*upstream, error) {
	start := time.Now()
	path := fmt.Sprintf("/api/v1/namespaces/%s/pods/%s/portforward", t.ref.Location.Namespace, dest.pod)
	transport, err := t.session.Upgrade(ctx, path)
	if err != nil {
		return nil, err
	}
	u := &upstream{Conn: spdy.NewConn(transport, maxQueuedBytes, t.reserve), pod: dest.pod, uid: dest.uid, clients: clients, idleSince: time.Now()}
	p := &t.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialTime = (p.dialTime + time.Since(start)) / 2
	if p.isClosed {
		go u.Close()
		return nil, errClosed
	}
	p.upstreams[u] = struct{}{}
	return u, nil
}

// releaseConn releases the upstream of a client's connection, and closes it if it cannot serve another.
func (t *tunnel) releaseConn(c *conn) {
	if t.pool.releaseClient(c) {
		go c.upstream.Close() // in the background: Close of a client's connection must not wait
	}
}

// markHalfClosed is called when a client has half-closed.
func (p *pool) markHalfClosed(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !c.isHalfClosed {
		c.isHalfClosed = true
		c.upstream.clients--
		c.upstream.halfClosedClients++
		p.slotFreed.Announce()
	}
}

// releaseClient removes a client from its upstream, and reports whether the caller must close the upstream.
func (p *pool) releaseClient(c *conn) (mustClose bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := c.upstream
	if c.isHalfClosed {
		u.halfClosedClients--
	} else {
		u.clients--
	}
	u.idleSince = time.Now()
	p.slotFreed.Announce()
	mustClose = u.clients+u.halfClosedClients == 0 && (u.isDraining || u.hasEnded() || p.isClosed)
	if mustClose {
		delete(p.upstreams, u)
	}
	return mustClose
}

// closeUpstream removes an upstream from the pool and closes it in the background.
func (t *tunnel) closeUpstream(u *upstream) {
	t.pool.mu.Lock()
	delete(t.pool.upstreams, u)
	t.pool.mu.Unlock()
	go u.Close()
}

// drainUpstream keeps further clients from an upstream through which a connection could not be opened in time. Its clients, if
// any, keep it as long as it responds to a ping.
func (t *tunnel) drainUpstream(u *upstream) {
	t.pool.mu.Lock()
	u.isDraining = true
	isUsed := u.clients+u.halfClosedClients > 0
	t.pool.mu.Unlock()
	if isUsed {
		t.startPing(u)
	} else {
		t.closeUpstream(u)
	}
}

// replaceWarmUpstream replaces a warm upstream that has been acquired: at once if opening one takes long, otherwise after
// replacementDelay, because most are released before.
func (t *tunnel) replaceWarmUpstream(dest destination) {
	p := &t.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dialTime > cheapDialTime {
		t.openWarmUpstreamsLocked(dest)
	}
	if p.isReplacementScheduled || p.isClosed {
		return
	}
	p.isReplacementScheduled = true
	t.goTask(func(ctx context.Context) {
		wait.Sleep(ctx, replacementDelay)
		p.mu.Lock()
		p.isReplacementScheduled = false
		p.mu.Unlock()
		t.openWarmUpstreams(dest)
	})
}

// openWarmUpstreams opens upstreams to the pod until warmTarget are idle. After a failure it opens one in any case: idle upstreams may be older
// than the failure, and only another attempt shows that it is over.
func (t *tunnel) openWarmUpstreams(dest destination) {
	t.pool.mu.Lock()
	defer t.pool.mu.Unlock()
	t.openWarmUpstreamsLocked(dest)
}

func (t *tunnel) openWarmUpstreamsLocked(dest destination) {
	p := &t.pool
	ready := p.warmDials
	for u := range p.upstreams {
		if u.uid == dest.uid && u.clients == 0 && !u.isDraining && !u.hasEnded() {
			ready++
		}
	}
	if p.warmDials == 0 && t.hasDialFailure() {
		ready = min(ready, p.warmTarget()-1)
	}
	for ; ready < p.warmTarget() && !p.isClosed; ready++ {
		p.warmDials++
		t.goTask(func(ctx context.Context) {
			_, err := t.dialUpstream(ctx, dest, 0)
			p.mu.Lock()
			p.warmDials--
			p.mu.Unlock()
			t.recordDialResult(dest, err)
		})
	}
}

// closeUnneededUpstreams closes idle upstreams that have ended, whose pod does not run any more, or that exceed warmTarget for
// idleUpstreamTTL.
func (t *tunnel) closeUnneededUpstreams() {
	p := &t.pool
	var unneeded []*upstream
	p.mu.Lock()
	idle := 0
	for u := range p.upstreams {
		if u.clients+u.halfClosedClients > 0 {
			continue
		}
		idle++
		if u.hasEnded() || !t.finder.isPodRunning(u.uid) || idle > p.warmTarget() && time.Since(u.idleSince) > idleUpstreamTTL {
			unneeded = append(unneeded, u)
			delete(p.upstreams, u)
		}
	}
	p.mu.Unlock()
	for _, u := range unneeded {
		_ = u.Close()
	}
}

// closeAllUpstreams closes the pool and all upstreams.
func (t *tunnel) closeAllUpstreams() {
	p := &t.pool
	p.mu.Lock()
	p.isClosed = true
	all := p.upstreams
	p.upstreams = map[*upstream]struct{}{}
	p.mu.Unlock()
	for u := range all { // their clients' connections break; the relay closes them
		_ = u.Close()
	}
}

func (t *tunnel) upstreams() []*upstream {
	t.pool.mu.Lock()
	defer t.pool.mu.Unlock()
	return slices.Collect(maps.Keys(t.pool.upstreams))
}
