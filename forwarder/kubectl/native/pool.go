package native

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder/kubectl/spdy"
)

// How upstreams are kept and shared.
const (
	// cheap is what opening an upstream may take for each client to get one of its own. Beyond, several share one, and
	// more are kept warm.
	cheap = 30 * time.Millisecond
	// most is how many are kept warm where opening takes long.
	most = 4
	// crowd is how many clients share one at most.
	crowd = 32
	// once is how many may be being opened to a pod for clients at once. When a crowd comes back from an outage, as many
	// handshakes as clients would have all of them wait for each other, until they are given up and begun again.
	once = 32
	// spare is how long more than the warm ones are kept.
	spare = 30 * time.Second
	// lull is how long nothing is done about an upstream that was taken.
	lull = 100 * time.Millisecond
	// budget is how many bytes a client who does not read may have waiting here.
	budget = 256 << 10
)

// pool is the upstreams of a tunnel. Each client has one of its own, because a connection that is shared waits for the
// slowest; the exception is a burst of clients at a cluster that is far away.
type pool struct {
	mu        sync.Mutex
	all       map[*upstream]struct{}
	closed    bool
	opening   map[string]int // for clients, by the pod's uid
	eased     chan struct{}  // closed when a client that waits for its turn may have one; nil when none waits
	filling   int            // being opened to be kept warm
	refilling bool           // somebody waits to see whether more are needed
	cost      time.Duration  // what opening took lately
}

// warm is how many are to be kept ready. p.mu is held.
func (p *pool) warm() int {
	return min(most, 1+int(p.cost/(2*cheap)))
}

// take gives a client an upstream to the pod that is open already, or nil where the client is to open one; opened is
// called then. While enough are being opened it gives neither, but a channel: when that is closed, or the pods change,
// another attempt may have more luck.
func (p *pool) take(uid string) (u *upstream, wait <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	best := p.best(uid)
	if best != nil {
		best.clients++
		best.Crowd(best.clients+best.leaving > 1)
		return best, nil
	}
	if p.opening[uid] < once {
		p.opening[uid]++
		return nil, nil
	}
	if p.eased == nil {
		p.eased = make(chan struct{})
	}
	return nil, p.eased
}

// best is the upstream that the next client may use, if there is one. p.mu is held.
func (p *pool) best(uid string) *upstream {
	var best *upstream
	for u := range p.all {
		if u.uid != uid || u.over() || u.soiled || u.leaving >= 2*crowd || u.Burdened() {
			continue
		}
		if best == nil || u.clients < best.clients || u.clients == best.clients && u.leaving < best.leaving {
			best = u
		}
	}
	if best == nil || best.clients > 0 && (p.cost < cheap || best.clients >= crowd) {
		return nil
	}
	return best
}

// opened notes that opening an upstream for a client has ended, either way.
func (p *pool) opened(uid string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.opening[uid]--; p.opening[uid] == 0 {
		delete(p.opening, uid)
	}
	p.ease()
}

// ease lets those who wait for their turn try again. p.mu is held.
func (p *pool) ease() {
	if p.eased != nil {
		close(p.eased)
		p.eased = nil
	}
}

func (u *upstream) over() bool {
	select {
	case <-u.Done():
		return true
	default:
		return false
	}
}

// dial opens an upstream to a pod.
func (t *tunnel) dial(ctx context.Context, at choice, clients int) (*upstream, error) {
	began := time.Now()
	path := fmt.Sprintf("/api/v1/namespaces/%s/pods/%s/portforward", t.words.Place.Namespace, at.pod)
	carrier, err := t.session.Upgrade(ctx, path)
	if err != nil {
		return nil, err
	}
	u := &upstream{Conn: spdy.NewConn(carrier, budget, t.reserve), pod: at.pod, uid: at.uid, clients: clients, idle: time.Now()}
	p := &t.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cost = (p.cost + time.Since(began)) / 2
	if p.closed {
		go u.Close()
		return nil, errClosed
	}
	p.all[u] = struct{}{}
	return u, nil
}

// give takes an upstream back from a client. It serves the next, unless something was wrong with it.
func (t *tunnel) give(c *conn) {
	if t.pool.given(c) {
		go c.up.Close() // whoever gives it back has something else to do
	}
}

// leaves notes that a client has said its last.
func (p *pool) leaves(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !c.leaves {
		c.leaves = true
		c.up.clients--
		c.up.leaving++
		p.ease()
	}
}

// given notes that a client's connection is over; true when its upstream is to be closed.
func (p *pool) given(c *conn) (drop bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := c.up
	if c.leaves {
		u.leaving--
	} else {
		u.clients--
	}
	u.idle = time.Now()
	p.ease()
	drop = u.clients+u.leaving == 0 && (u.soiled || u.over() || p.closed)
	if drop {
		delete(p.all, u)
	}
	return drop
}

// drop closes an upstream that is of no use any more.
func (t *tunnel) drop(u *upstream) {
	t.pool.mu.Lock()
	delete(t.pool.all, u)
	t.pool.mu.Unlock()
	go u.Close()
}

// forsake gives up an upstream through which nothing could be opened in time. It may be well, and others use it: they keep it
// until it does not answer either.
func (t *tunnel) forsake(u *upstream) {
	t.pool.mu.Lock()
	u.soiled = true
	used := u.clients+u.leaving > 0
	t.pool.mu.Unlock()
	if used {
		t.ask(u)
	} else {
		t.drop(u)
	}
}

// refill replaces an upstream that was taken: at once where opening one takes long, else when it has not come back soon,
// as most do.
func (t *tunnel) refill(at choice) {
	p := &t.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cost > cheap {
		t.fillLocked(at)
	}
	if p.refilling || p.closed {
		return
	}
	p.refilling = true
	t.goes(func(ctx context.Context) {
		timer := time.NewTimer(lull)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		p.mu.Lock()
		p.refilling = false
		p.mu.Unlock()
		t.fill(at)
	})
}

// fill opens as many upstreams to the pod as are to be kept warm.
func (t *tunnel) fill(at choice) {
	t.pool.mu.Lock()
	defer t.pool.mu.Unlock()
	t.fillLocked(at)
}

func (t *tunnel) fillLocked(at choice) {
	p := &t.pool
	ready := p.filling
	for u := range p.all {
		if u.uid == at.uid && u.clients == 0 && !u.soiled && !u.over() {
			ready++
		}
	}
	for ; ready < p.warm() && !p.closed; ready++ {
		p.filling++
		t.goes(func(ctx context.Context) {
			_, err := t.dial(ctx, at, 0)
			p.mu.Lock()
			p.filling--
			p.mu.Unlock()
			t.dialled(at, err)
		})
	}
}

// prune closes what is not needed: what leads to pods that are gone, and more than is to be kept warm for longer than a
// while.
func (t *tunnel) prune() {
	p := &t.pool
	var gone []*upstream
	p.mu.Lock()
	idle := 0
	for u := range p.all {
		if u.clients+u.leaving > 0 {
			continue
		}
		idle++
		if u.over() || !t.finder.serves(u.uid) || idle > p.warm() && time.Since(u.idle) > spare {
			gone = append(gone, u)
			delete(p.all, u)
		}
	}
	p.mu.Unlock()
	for _, u := range gone {
		_ = u.Close()
	}
}

// closeAll closes all upstreams for good.
func (t *tunnel) closeAll() {
	p := &t.pool
	p.mu.Lock()
	p.closed = true
	all := p.all
	p.all = map[*upstream]struct{}{}
	p.mu.Unlock()
	for u := range all { // which breaks their clients' connections; the relay closes those
		_ = u.Close()
	}
}

func (t *tunnel) upstreams() []*upstream {
	t.pool.mu.Lock()
	defer t.pool.mu.Unlock()
	return slices.Collect(maps.Keys(t.pool.all))
}
