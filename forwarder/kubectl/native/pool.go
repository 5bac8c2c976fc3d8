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

// How upstreams are kept and shared.
const (
	// cheapDialTime is what opening an upstream may take for each client to get one of its own. Beyond, several share one, and
	// more are kept warm.
	cheapDialTime = 30 * time.Millisecond
	// maxWarmUpstreams is how many are kept warm where opening takes long.
	maxWarmUpstreams = 4
	// maxClientsPerUpstream is how many clients share one at most.
	maxClientsPerUpstream = 32
	// maxDialsPerPod is how many may be being opened to a pod for clients at once. When a crowd comes back from an outage, as many
	// handshakes as clients would have all of them wait for each other, until they are given up and begun again.
	maxDialsPerPod = 32
	// spareUpstreamTTL is how long more than the warm ones are kept.
	spareUpstreamTTL = 30 * time.Second
	// refillDelay is how long nothing is done about an upstream that was taken.
	refillDelay = 100 * time.Millisecond
	// maxQueuedBytes is how many bytes a client who does not read may have waiting here.
	maxQueuedBytes = 256 << 10
)

// pool is the upstreams of a tunnel. Each client has one of its own, because a connection that is shared waits for the
// slowest; the exception is a burst of clients at a cluster that is far away.
type pool struct {
	mu                sync.Mutex
	upstreams         map[*upstream]struct{}
	isClosed          bool
	clientDials       map[string]int // for clients, by the pod's uid
	slotFreed         wait.Broadcast // a client that waits for its turn may have one
	warmDials         int            // being opened to be kept warm
	isRefillScheduled bool           // somebody waits to see whether more are needed
	dialTime          time.Duration  // what opening took lately
}

// warmTarget is how many are to be kept ready. p.mu is held.
func (p *pool) warmTarget() int {
	return min(maxWarmUpstreams, 1+int(p.dialTime/(2*cheapDialTime)))
}

// acquire gives a client an upstream to the pod that is open already, or nil where the client is to open one; opened is
// called then. While enough are being opened it gives neither, but a channel: when that is closed, or the pods change,
// another attempt may have more luck.
func (p *pool) acquire(uid string) (u *upstream, slotFreed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	best := p.leastLoaded(uid)
	if best != nil {
		best.clients++
		best.SetShared(best.clients+best.leaving > 1)
		return best, nil
	}
	if p.clientDials[uid] < maxDialsPerPod {
		p.clientDials[uid]++
		return nil, nil
	}
	return nil, p.slotFreed.Changed()
}

// leastLoaded is the upstream that the next client may use, if there is one. p.mu is held.
func (p *pool) leastLoaded(uid string) *upstream {
	var best *upstream
	for u := range p.upstreams {
		if u.uid != uid || u.hasEnded() || u.isRetired || u.leaving >= 2*maxClientsPerUpstream || u.IsCongested() {
			continue
		}
		if best == nil || u.clients < best.clients || u.clients == best.clients && u.leaving < best.leaving {
			best = u
		}
	}
	if best == nil || best.clients > 0 && (p.dialTime < cheapDialTime || best.clients >= maxClientsPerUpstream) {
		return nil
	}
	return best
}

// endClientDial notes that opening an upstream for a client has ended, either way.
func (p *pool) endClientDial(uid string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.clientDials[uid]--; p.clientDials[uid] == 0 {
		delete(p.clientDials, uid)
	}
	p.slotFreed.Announce()
}

func (u *upstream) hasEnded() bool {
	select {
	case <-u.Done():
		return true
	default:
		return false
	}
}

// dialUpstream opens an upstream to a pod.
func (t *tunnel) dialUpstream(ctx context.Context, dest destination, clients int) (*upstream, error) {
	began := time.Now()
	path := fmt.Sprintf("/api/v1/namespaces/%s/pods/%s/portforward", t.ref.Location.Namespace, dest.pod)
	transport, err := t.session.Upgrade(ctx, path)
	if err != nil {
		return nil, err
	}
	u := &upstream{Conn: spdy.NewConn(transport, maxQueuedBytes, t.reserve), pod: dest.pod, uid: dest.uid, clients: clients, idleSince: time.Now()}
	p := &t.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialTime = (p.dialTime + time.Since(began)) / 2
	if p.isClosed {
		go u.Close()
		return nil, errClosed
	}
	p.upstreams[u] = struct{}{}
	return u, nil
}

// releaseConn takes an upstream back from a client. It serves the next, unless something was wrong with it.
func (t *tunnel) releaseConn(c *conn) {
	if t.pool.releaseClient(c) {
		go c.upstream.Close() // whoever gives it back has something else to do
	}
}

// markLeaving notes that a client has said its last.
func (p *pool) markLeaving(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !c.isLeaving {
		c.isLeaving = true
		c.upstream.clients--
		c.upstream.leaving++
		p.slotFreed.Announce()
	}
}

// releaseClient notes that a client's connection is over; true when its upstream is to be closed.
func (p *pool) releaseClient(c *conn) (mustClose bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := c.upstream
	if c.isLeaving {
		u.leaving--
	} else {
		u.clients--
	}
	u.idleSince = time.Now()
	p.slotFreed.Announce()
	mustClose = u.clients+u.leaving == 0 && (u.isRetired || u.hasEnded() || p.isClosed)
	if mustClose {
		delete(p.upstreams, u)
	}
	return mustClose
}

// closeUpstream closes an upstream that is of no use any more.
func (t *tunnel) closeUpstream(u *upstream) {
	t.pool.mu.Lock()
	delete(t.pool.upstreams, u)
	t.pool.mu.Unlock()
	go u.Close()
}

// retireUpstream gives up an upstream through which nothing could be opened in time. It may be well, and others use it: they keep it
// until it does not answer either.
func (t *tunnel) retireUpstream(u *upstream) {
	t.pool.mu.Lock()
	u.isRetired = true
	isUsed := u.clients+u.leaving > 0
	t.pool.mu.Unlock()
	if isUsed {
		t.startPing(u)
	} else {
		t.closeUpstream(u)
	}
}

// refill replaces an upstream that was taken: at once where opening one takes long, else when it has not come back soon,
// as most do.
func (t *tunnel) refill(dest destination) {
	p := &t.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dialTime > cheapDialTime {
		t.fillWarmLocked(dest)
	}
	if p.isRefillScheduled || p.isClosed {
		return
	}
	p.isRefillScheduled = true
	t.goTask(func(ctx context.Context) {
		wait.Sleep(ctx, refillDelay)
		p.mu.Lock()
		p.isRefillScheduled = false
		p.mu.Unlock()
		t.fillWarm(dest)
	})
}

// fillWarm opens as many upstreams to the pod as are to be kept warm.
func (t *tunnel) fillWarm(dest destination) {
	t.pool.mu.Lock()
	defer t.pool.mu.Unlock()
	t.fillWarmLocked(dest)
}

func (t *tunnel) fillWarmLocked(dest destination) {
	p := &t.pool
	ready := p.warmDials
	for u := range p.upstreams {
		if u.uid == dest.uid && u.clients == 0 && !u.isRetired && !u.hasEnded() {
			ready++
		}
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

// prune closes what is not needed: what leads to pods that are gone, and more than is to be kept warm for longer than a
// while.
func (t *tunnel) prune() {
	p := &t.pool
	var unneeded []*upstream
	p.mu.Lock()
	idle := 0
	for u := range p.upstreams {
		if u.clients+u.leaving > 0 {
			continue
		}
		idle++
		if u.hasEnded() || !t.finder.isPodRunning(u.uid) || idle > p.warmTarget() && time.Since(u.idleSince) > spareUpstreamTTL {
			unneeded = append(unneeded, u)
			delete(p.upstreams, u)
		}
	}
	p.mu.Unlock()
	for _, u := range unneeded {
		_ = u.Close()
	}
}

// closeAll closes all upstreams for good.
func (t *tunnel) closeAll() {
	p := &t.pool
	p.mu.Lock()
	p.isClosed = true
	all := p.upstreams
	p.upstreams = map[*upstream]struct{}{}
	p.mu.Unlock()
	for u := range all { // which breaks their clients' connections; the relay closes those
		_ = u.Close()
	}
}

func (t *tunnel) upstreams() []*upstream {
	t.pool.mu.Lock()
	defer t.pool.mu.Unlock()
	return slices.Collect(maps.Keys(t.pool.upstreams))
}
