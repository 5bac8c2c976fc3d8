package native

import (
	"context"
	"fmt"
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
	// spare is how long more than the warm ones are kept.
	spare = 30 * time.Second
	// budget is how many bytes a client who does not read may have waiting here.
	budget = 256 << 10
)

// pool is the upstreams of a tunnel. Each client has one of its own, because a connection that is shared waits for the
// slowest; the exception is a burst of clients at a cluster that is far away.
type pool struct {
	mu      sync.Mutex
	all     map[*upstream]struct{}
	closed  bool
	filling int           // being opened to be kept warm
	cost    time.Duration // what opening took lately
}

// warm is how many are to be kept ready. p.mu is held.
func (p *pool) warm() int {
	return min(most, 1+int(p.cost/(2*cheap)))
}

// take gives an upstream to the pod that is open already, nil where the client is to have a new one.
func (p *pool) take(uid string) *upstream {
	p.mu.Lock()
	defer p.mu.Unlock()
	var best *upstream
	for u := range p.all {
		if u.uid != uid || u.over() {
			continue
		}
		if best == nil || u.clients < best.clients {
			best = u
		}
	}
	if best == nil || best.clients > 0 && (p.cost < cheap || best.clients >= crowd) {
		return nil
	}
	best.clients++
	return best
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
	u := &upstream{Conn: spdy.NewConn(carrier, budget), uid: at.uid, clients: clients, idle: time.Now()}
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

// give takes an upstream back from a client. One that ended in good order serves the next.
func (t *tunnel) give(u *upstream, clean bool) {
	p := &t.pool
	p.mu.Lock()
	u.clients--
	u.soiled = u.soiled || !clean
	u.idle = time.Now()
	drop := u.clients == 0 && (u.soiled || u.over() || p.closed)
	if drop {
		delete(p.all, u)
	}
	p.mu.Unlock()
	if drop {
		_ = u.Close()
	}
}

// drop closes an upstream that is of no use any more.
func (t *tunnel) drop(u *upstream) {
	t.pool.mu.Lock()
	delete(t.pool.all, u)
	t.pool.mu.Unlock()
	_ = u.Close()
}

// fill opens as many upstreams to the pod as are to be kept warm.
func (t *tunnel) fill(at choice) {
	p := &t.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	ready := p.filling
	for u := range p.all {
		if u.uid == at.uid && u.clients == 0 && !u.over() {
			ready++
		}
	}
	for ; ready < p.warm() && !p.closed; ready++ {
		p.filling++
		t.running.Go(func() {
			_, err := t.dial(t.work, at, 0)
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
		if u.clients > 0 {
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

// close closes all upstreams for good.
func (t *tunnel) closeAll() {
	p := &t.pool
	p.mu.Lock()
	p.closed = true
	all := p.all
	p.all = map[*upstream]struct{}{}
	p.mu.Unlock()
	for u := range all {
		_ = u.Close()
	}
}

func (t *tunnel) upstreams() []*upstream {
	t.pool.mu.Lock()
	defer t.pool.mu.Unlock()
	all := make([]*upstream, 0, len(t.pool.all))
	for u := range t.pool.all {
		all = append(all, u)
	}
	return all
}
