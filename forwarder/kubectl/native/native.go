// Package native makes tunnels into Kubernetes without another process: each client's connection goes to the API server by
// itself, and from there through the pod's node into the pod. Which pod that is, is chosen anew for each connection.
package native

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
	"github.com/localport-sh/localport/forwarder/kubectl/spdy"
	"github.com/localport-sh/localport/forwarder/tasks"
	"github.com/localport-sh/localport/forwarder/wait"
)

// Spec says what is forwarded.
type Spec struct {
	Target
	Words   session.Words
	Session *session.Session
	Release func() // of the session; called once, also after an error
	Watched bool   // the health of the cluster is of interest
	Tasks   *tasks.Group
	Reserve *spdy.Reserve // for all tunnels of a driver
}

// NewReserve makes the bytes that tunnels have for those who share an upstream with somebody who does not read. A few of those
// may have a lot to read.
func NewReserve() *spdy.Reserve { return spdy.NewReserve(64 << 20) }

var (
	errClosed = errors.New("the tunnel is closed")
	errSilent = errors.New("the connection to the pod's node fell silent")
)

// tunnel is a service's way into the cluster for as long as somebody wants it.
type tunnel struct {
	words   session.Words
	session *session.Session
	release func()
	finder  *finder
	log     io.Writer
	watched bool

	refusals chan forwarder.Refusal
	pool     pool
	reserve  *spdy.Reserve
	tasks    *tasks.Group
	done     chan struct{}
	shut     sync.Once

	mu      sync.Mutex
	err     error
	trouble *forwarder.Failure // why the last upstream could not be opened
	changed chan struct{}      // gets a word when there is or was trouble
}

// Open returns when it is known that the target is there, and when the way to a pod of it is open, if it has one.
func Open(ctx context.Context, run forwarder.Run, spec Spec) (forwarder.Tunnel, error) {
	t := &tunnel{
		words: spec.Words, session: spec.Session, release: spec.Release, log: run.Log, watched: spec.Watched,
		refusals: make(chan forwarder.Refusal, 64), done: make(chan struct{}), changed: make(chan struct{}, 1),
	}
	t.pool.all, t.pool.opening = make(map[*upstream]struct{}), make(map[string]int)
	t.tasks, t.reserve = spec.Tasks.Subgroup(), spec.Reserve
	t.finder = newFinder(t.tasks, spec.Session, spec.Target, spec.Words, t.broke)
	if err := t.begin(ctx); err != nil {
		_ = t.Close()
		return nil, err
	}
	t.goes(t.run)
	return t, nil
}

// goes runs a part of the tunnel, which fails as a whole if it breaks.
func (t *tunnel) goes(f func(ctx context.Context)) {
	t.tasks.Go(func(ctx context.Context) { forwarder.Contain(func() { f(ctx) }, t.broke) })
}

func (t *tunnel) broke(failure *forwarder.Failure, stack []byte) {
	_, _ = t.log.Write(stack)
	t.end(failure)
}

// begin finds out whether the target can be had.
func (t *tunnel) begin(ctx context.Context) error {
	if err := t.finder.settle(ctx); err != nil {
		return err
	}
	at, _, _, _ := t.finder.choose()
	if at == nil {
		return nil // it waits for a pod
	}
	_, err := t.dial(ctx, *at, 0)
	if err == nil {
		return nil
	}
	failure := t.session.Failure(err, t.words)
	if failure.Class != forwarder.Transient {
		return failure
	}
	if err, _ := t.session.Reach(); err != nil {
		return t.session.Failure(err, t.words)
	}
	t.dialled(*at, err)
	return nil
}

// run keeps upstreams warm and alive, and ends the tunnel when only the user can help.
func (t *tunnel) run(ctx context.Context) {
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	said := diary{log: t.log}
	for {
		trouble, told := t.finder.state()
		if trouble != nil && trouble.Class == forwarder.ByAttention {
			t.end(trouble)
			return
		}
		t.tell()
		if t.watched && t.Trouble() != nil {
			t.session.LookAtNodes(t.finder.nodes())
		}
		t.prune()
		at, _, _, _ := t.finder.choose()
		if at != nil && trouble == nil {
			t.fill(*at)
		}
		said.note(at, t.Trouble())
		select {
		case <-told:
		case <-ticker.C:
			t.pulse()
		case <-ctx.Done():
			return
		}
	}
}

// diary writes into the service's log what becomes of it.
type diary struct {
	log    io.Writer
	pod    string
	reason string
}

func (d *diary) note(at *choice, trouble *forwarder.Failure) {
	reason := ""
	if trouble != nil {
		reason = trouble.Reason
	}
	if reason != d.reason {
		if d.reason = reason; reason != "" {
			fmt.Fprintf(d.log, "connections wait: %s\n", reason)
		}
	}
	if at != nil && trouble == nil && at.pod != d.pod {
		d.pod = at.pod
		fmt.Fprintf(d.log, "connections go to port %d of pod %s on node %s\n", at.port, at.pod, at.node)
	}
}

// Dial connects to the pod that is the best now. While there is none it waits, and so it does while the way there is
// broken; the error says what it waited for.
func (t *tunnel) Dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := t.tasks.BindContext(ctx, net.ErrClosed)
	defer cancel()
	for pause := (wait.Backoff{First: 20 * time.Millisecond, Max: 500 * time.Millisecond}); ; {
		delay := pause.Next() // grows with each turn, too
		at, err := t.finder.pick(ctx)
		if err != nil {
			return nil, t.undialled(ctx, err)
		}
		c, err := t.connect(ctx, at)
		if err == nil {
			return c, nil
		}
		if ctx.Err() != nil {
			return nil, t.undialled(ctx, err)
		}
		if errors.Is(err, errTurn) {
			continue
		}
		if failure := t.session.Failure(err, t.words); failure.Class == forwarder.ByAttention {
			t.end(failure)
			return nil, failure
		}
		t.pause(ctx, delay)
	}
}

// pause waits before another attempt, not for longer than until something has changed.
func (t *tunnel) pause(ctx context.Context, d time.Duration) {
	_, reach := t.session.Reach()
	_, told := t.finder.state()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-reach:
	case <-told:
	case <-ctx.Done():
	}
}

// undialled is the error of a connection that could not be had.
func (t *tunnel) undialled(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return context.Cause(ctx)
	}
	if trouble := t.Trouble(); trouble != nil {
		return trouble
	}
	return err
}

// answer is how long a node may take to take a connection up.
const answer = 3 * time.Second

// errTurn is for a client that has waited for its turn: there may be a better pod by now.
var errTurn = errors.New("the connection waits for its turn")

// connect connects to a pod, through an upstream that is open already if there is one.
func (t *tunnel) connect(ctx context.Context, at choice) (net.Conn, error) {
	for {
		_, told := t.finder.state()
		u, eased := t.pool.take(at.uid)
		old := u != nil
		switch {
		case old:
			t.refill(at)
		case eased != nil:
			select {
			case <-eased:
			case <-told:
			case <-ctx.Done():
			}
			return nil, errTurn
		default:
			var err error
			u, err = t.dial(ctx, at, 1)
			t.pool.opened(at.uid)
			if err != nil {
				t.dialled(at, err)
				return nil, err
			}
		}
		c, err := t.through(ctx, u, at)
		if err == nil {
			t.dialled(at, nil)
			return c, nil
		}
		t.pool.given(&conn{pair: &pair{up: u}})
		if ctx.Err() != nil {
			return nil, err
		}
		t.forsake(u)
		t.session.Suspect()
		if !old {
			t.dialled(at, err)
			return nil, err
		}
	}
}

func (t *tunnel) through(ctx context.Context, u *upstream, at choice) (net.Conn, error) {
	p, err := u.open(at.port)
	if err != nil {
		return nil, err
	}
	if err := p.replied(ctx, answer); err != nil {
		p.abort()
		return nil, err
	}
	return newConn(p, t, at), nil
}

// dialled notes how opening a way to a pod came out.
func (t *tunnel) dialled(at choice, err error) {
	if errors.Is(err, context.Canceled) || errors.Is(err, errClosed) {
		return
	}
	var trouble *forwarder.Failure
	if err != nil {
		t.finder.refuse(at.uid)
		trouble = t.session.Failure(fmt.Errorf("pod %s: %w", at.pod, err), t.words)
	}
	t.mu.Lock()
	was := t.trouble
	t.trouble = trouble
	t.mu.Unlock()
	if (was == nil) != (trouble == nil) {
		t.tell()
	}
}

// tell says that there is trouble, or none any more.
func (t *tunnel) tell() {
	wait.Notify(t.changed)
}

// Trouble is what stands in the way of connections now; nil if nothing does, as far as is known.
func (t *tunnel) Trouble() *forwarder.Failure {
	if trouble, _ := t.finder.state(); trouble != nil {
		return trouble
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.trouble
}

// Changed gets a word when Trouble may say something else.
func (t *tunnel) Changed() <-chan struct{} { return t.changed }

func (t *tunnel) report(r forwarder.Refusal) {
	select {
	case t.refusals <- r:
	default:
	}
}

// Refusals are what nodes say of connections; each names its connection.
func (t *tunnel) Refusals() <-chan forwarder.Refusal { return t.refusals }

// Acknowledges is false: a node takes a connection up before it asks the pod.
func (t *tunnel) Acknowledges() bool { return false }

// Done is closed when the tunnel has ended.
func (t *tunnel) Done() <-chan struct{} { return t.done }

// Err is why; nil after Close.
func (t *tunnel) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// end ends the tunnel because only the user can help.
func (t *tunnel) end(failure *forwarder.Failure) {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-t.done:
	default:
		t.err = failure
		close(t.done)
	}
}

// Close ends the tunnel and every connection through it, and returns when nothing of it runs any more.
func (t *tunnel) Close() error {
	t.shut.Do(func() {
		t.tasks.Cancel()
		t.closeAll()
		t.tasks.Close()
		t.finder.close()
		t.release()
		t.mu.Lock()
		defer t.mu.Unlock()
		select {
		case <-t.done:
		default:
			close(t.done)
		}
	})
	return nil
}
