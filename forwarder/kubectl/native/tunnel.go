// Package native opens tunnels to Kubernetes pods without kubectl: each client gets its own connection through the API server and
// the pod's node. The pod is chosen for each connection.
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

// Spec is what to forward, and what the tunnels of a driver share.
type Spec struct {
	Target
	Ref           session.ResourceRef
	Session       *session.Session
	Release       func()               // releases Session; called once, also after an error
	Files         *session.ConfigFiles // of Session
	ClusterHealth bool                 // check the cluster's nodes when something is wrong
	Tasks         *tasks.Group
	Reserve       *spdy.BufferReserve // shared by all tunnels of a driver
}

// NewBufferReserve makes the reserve for slow clients of shared upstreams: 64 MiB, enough for a few that have much to read.
func NewBufferReserve() *spdy.BufferReserve { return spdy.NewBufferReserve(64 << 20) }

var (
	errClosed       = errors.New("the tunnel is closed")
	errUnresponsive = errors.New("the connection to the pod's node does not respond")
)

// tunnel is a forwarder.Tunnel. It reconnects by itself, and ends only by Close or if only the user can help.
type tunnel struct {
	ref           session.ResourceRef
	session       *session.Session
	files         *session.ConfigFiles
	release       func()
	finder        *podFinder
	log           io.Writer
	clusterHealth bool

	refusalCh chan forwarder.Refusal
	pool      pool
	reserve   *spdy.BufferReserve
	tasks     *tasks.Group
	doneCh    chan struct{}
	closeOnce sync.Once

	dialRefusals passingRefusals

	mu          sync.Mutex
	err         error
	dialFailure *forwarder.Failure // why the last upstream could not be opened
	checkedAt   time.Time          // when a failed dial last had endIfOutdated called
	changedCh   chan struct{}      // see FailureChanged
}

// Open returns when the target has been found, and a connection to one of its pods is open, if it has one. An error is a
// *forwarder.Failure or that of ctx.
func Open(ctx context.Context, run forwarder.Run, spec Spec) (forwarder.Tunnel, error) {
	t := &tunnel{
		ref: spec.Ref, session: spec.Session, files: spec.Files, release: spec.Release, log: run.Log, clusterHealth: spec.ClusterHealth,
		refusalCh: make(chan forwarder.Refusal, 64), doneCh: make(chan struct{}), changedCh: make(chan struct{}, 1),
	}
	t.pool.upstreams, t.pool.clientDials = make(map[*upstream]struct{}), make(map[string]int)
	t.tasks, t.reserve = spec.Tasks.Subgroup(), spec.Reserve
	t.finder = newPodFinder(t.tasks, spec.Session, spec.Target, spec.Ref, t.onPanic)
	if err := t.dialFirst(ctx); err != nil {
		_ = t.Close()
		return nil, err
	}
	t.goTask(t.run)
	return t, nil
}

// goTask runs f in a goroutine of the tunnel. A panic in f ends the tunnel.
func (t *tunnel) goTask(f func(ctx context.Context)) {
	t.tasks.Go(func(ctx context.Context) { forwarder.CatchPanic(func() { f(ctx) }, t.onPanic) })
}

func (t *tunnel) onPanic(failure *forwarder.Failure, stack []byte) {
	_, _ = t.log.Write(stack)
	t.endWith(failure)
}

// dialFirst checks the target and opens the first upstream.
func (t *tunnel) dialFirst(ctx context.Context) error {
	if err := t.finder.checkTarget(ctx); err != nil {
		return err
	}
	dest, _, _, _ := t.finder.choosePod()
	if dest == nil {
		return nil // clients wait for a pod
	}
	_, err := t.dialUpstream(ctx, *dest, 0)
	if err == nil {
		return nil
	}
	failure := t.session.ClassifyError(err, t.ref)
	if failure.Class != forwarder.Transient {
		return failure
	}
	if failure := t.session.UnreachableFailure(t.ref); failure != nil {
		return failure
	}
	t.recordDialResult(*dest, err)
	return nil
}

// passTime is how long the server may answer 401 or 403, or show another certificate, before the tunnel ends with its connections: an API
// server that is starting does that for seconds.
const passTime = time.Minute

// passingRefusals tells refusals of a moment from lasting ones. It is safe for concurrent use.
type passingRefusals struct {
	mu    sync.Mutex
	since time.Time // of the first in a row; zero: the last result was none
}

// isFinal reports whether only the user can help after a result: nil, or a failure. So it is with a login helper that cannot be executed: only
// another tunnel runs it again, when that has changed.
func (r *passingRefusals) isFinal(failure *forwarder.Failure) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case failure != nil && failure.Class == forwarder.Permanent && failure.AwaitChange != nil:
		return true
	case failure == nil || failure.Class != forwarder.NeedsUser:
		r.since = time.Time{}
		return false
	case !failure.MayPass:
		return true
	case r.since.IsZero():
		r.since = time.Now()
	}
	return time.Since(r.since) >= passTime
}

// run keeps warm upstreams open, pings them, and ends the tunnel when only the user can help.
func (t *tunnel) run(ctx context.Context) {
	ticker := time.NewTicker(pingInterval)
	defer ticker.Stop()
	changes := changeLog{log: t.log}
	var refusals passingRefusals
	for {
		failure, changed := t.finder.state()
		if refusals.isFinal(failure) {
			t.endWith(failure)
			return
		}
		t.notifyChanged()
		if t.clusterHealth && t.CurrentFailure() != nil {
			t.session.CheckNodes(t.finder.nodeNames())
		}
		t.closeUnneededUpstreams()
		dest, _, _, _ := t.finder.choosePod()
		if dest != nil && (failure == nil || failure.MayServe) {
			t.openWarmUpstreams(*dest)
		}
		changes.logChanges(dest, t.CurrentFailure())
		select {
		case <-changed:
		case <-ticker.C:
			t.pingQuietUpstreams()
			if t.mayNeedOtherCredentials() && t.endIfOutdated() {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// mayNeedOtherCredentials reports whether other credentials may serve better, so that a change of the kubeconfig ends the tunnel: nothing
// works, or the user may not watch the pods and no client loses a connection.
func (t *tunnel) mayNeedOtherCredentials() bool {
	return t.CurrentFailure() != nil || t.finder.lacksWatch() && !t.pool.hasClients()
}

// endIfOutdated ends the tunnel if the kubeconfig describes another session by now, which the next tunnel uses. It reports whether that is so.
func (t *tunnel) endIfOutdated() bool {
	if !t.files.DescribeAnother() {
		return false
	}
	t.endWith(&forwarder.Failure{Reason: "the kubeconfig has changed"})
	return true
}

// changeLog writes to the service's log when the destination or the reason to wait changes.
type changeLog struct {
	log    io.Writer
	pod    string
	reason string
}

func (l *changeLog) logChanges(dest *destination, failure *forwarder.Failure) {
	reason := ""
	if failure != nil {
		reason = failure.Reason
	}
	if reason != l.reason && reason != "" {
		format := "waiting: %s\n"
		if failure.MayServe {
			format = "connecting although no pod is Ready: %s\n"
		}
		fmt.Fprintf(l.log, format, reason)
	}
	l.reason = reason
	if dest != nil && failure == nil && dest.pod != l.pod {
		l.pod = dest.pod
		fmt.Fprintf(l.log, "forwarding to port %d of pod %s on node %s\n", dest.port, dest.pod, dest.node)
	}
}

// Dial connects to the best pod. It waits while there is none, and retries while connecting fails; the error says what it waited
// for.
func (t *tunnel) Dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := t.tasks.BindContext(ctx, net.ErrClosed)
	defer cancel()
	for backoff := (wait.Backoff{First: 20 * time.Millisecond, Max: 500 * time.Millisecond}); ; {
		delay := backoff.Next() // also after errDialSlotWaited
		dest, err := t.finder.waitForPod(ctx)
		if err != nil {
			return nil, t.dialError(ctx, err)
		}
		c, err := t.connect(ctx, dest)
		if err == nil {
			t.dialRefusals.isFinal(nil)
			return c, nil
		}
		if ctx.Err() != nil {
			return nil, t.dialError(ctx, err)
		}
		if errors.Is(err, errDialSlotWaited) {
			continue
		}
		if failure := t.session.ClassifyError(err, t.ref); t.dialRefusals.isFinal(failure) {
			t.endWith(failure)
			return nil, failure
		}
		t.waitRetry(ctx, delay)
	}
}

// waitRetry waits for d before another attempt, but only until the state changes.
func (t *tunnel) waitRetry(ctx context.Context, d time.Duration) {
	_, reachabilityChanged := t.session.Reachability()
	_, changed := t.finder.state()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-reachabilityChanged:
	case <-changed:
	case <-ctx.Done():
	}
}

// dialError is the error of Dial after ctx has ended.
func (t *tunnel) dialError(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return context.Cause(ctx)
	}
	if failure := t.CurrentFailure(); failure != nil {
		return failure
	}
	return err
}

// replyTimeout is how long a node may take to accept a connection.
const replyTimeout = 3 * time.Second

// errDialSlotWaited says that a client has waited for a slot of maxDialsPerPod, and that its pod must be chosen again.
var errDialSlotWaited = errors.New("the connection waited for a free slot")

// connect connects to a pod, through an open upstream if there is one.
func (t *tunnel) connect(ctx context.Context, dest destination) (net.Conn, error) {
	for {
		_, changed := t.finder.state()
		u, slotFreed := t.pool.acquire(dest.uid)
		isExisting := u != nil
		switch {
		case isExisting:
			t.replaceWarmUpstream(dest)
		case slotFreed != nil:
			select {
			case <-slotFreed:
			case <-changed:
			case <-ctx.Done():
			}
			return nil, errDialSlotWaited
		default:
			var err error
			u, err = t.dialUpstream(ctx, dest, 1)
			t.pool.endClientDial(dest.uid)
			if err != nil {
				t.recordDialResult(dest, err)
				return nil, err
			}
		}
		c, err := t.connectThrough(ctx, u, dest)
		if err == nil {
			t.recordDialResult(dest, nil)
			return c, nil
		}
		t.pool.releaseClient(&conn{streamPair: &streamPair{upstream: u}})
		if ctx.Err() != nil {
			return nil, err
		}
		t.drainUpstream(u)
		t.session.StartProbe()
		if !isExisting {
			t.recordDialResult(dest, err)
			return nil, err
		}
	}
}

func (t *tunnel) connectThrough(ctx context.Context, u *upstream, dest destination) (net.Conn, error) {
	p, err := u.openStreams(dest.port)
	if err != nil {
		return nil, err
	}
	if err := p.waitReplied(ctx, replyTimeout); err != nil {
		p.abort()
		return nil, err
	}
	return newConn(p, t, dest), nil
}

// recordDialResult records the result of opening an upstream or a connection.
func (t *tunnel) recordDialResult(dest destination, err error) {
	if errors.Is(err, context.Canceled) || errors.Is(err, errClosed) {
		return
	}
	var failure *forwarder.Failure
	if err != nil {
		t.finder.recordRefusal(dest.uid)
		failure = t.session.ClassifyError(fmt.Errorf("pod %s: %w", dest.pod, err), t.ref)
	}
	t.mu.Lock()
	previous := t.dialFailure
	t.dialFailure = failure
	isCheckDue := failure != nil && time.Since(t.checkedAt) >= time.Second
	if isCheckDue {
		t.checkedAt = time.Now()
	}
	t.mu.Unlock()
	if (previous == nil) != (failure == nil) {
		t.notifyChanged()
	}
	if isCheckDue { // at once: until run looks, connections through upstreams that are open may hide the failure
		t.endIfOutdated()
	}
}

func (t *tunnel) hasDialFailure() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dialFailure != nil
}

// notifyChanged signals FailureChanged.
func (t *tunnel) notifyChanged() {
	wait.Notify(t.changedCh)
}

// CurrentFailure returns why no connection is possible now; nil if nothing is known to be wrong.
func (t *tunnel) CurrentFailure() *forwarder.Failure {
	if failure, _ := t.finder.state(); failure != nil {
		return failure
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dialFailure
}

// FailureChanged receives a signal when CurrentFailure may have changed.
func (t *tunnel) FailureChanged() <-chan struct{} { return t.changedCh }

func (t *tunnel) sendRefusal(r forwarder.Refusal) {
	select {
	case t.refusalCh <- r:
	default:
	}
}

// Refusals delivers the nodes' reports of failed connections; each names its connection.
func (t *tunnel) Refusals() <-chan forwarder.Refusal { return t.refusalCh }

// Acknowledges is false: a node accepts a connection before it connects to the pod.
func (t *tunnel) Acknowledges() bool { return false }

// Done is closed when the tunnel has ended.
func (t *tunnel) Done() <-chan struct{} { return t.doneCh }

// Err is why the tunnel has ended; nil after Close.
func (t *tunnel) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// endWith ends the tunnel, with an error if only the user can help.
func (t *tunnel) endWith(err error) {
	err = t.files.ReconsiderError(err)
	t.mu.Lock()
	defer t.mu.Unlock()
	if !wait.IsClosed(t.doneCh) {
		t.err = err
		close(t.doneCh)
	}
}

// Close ends the tunnel and all its connections, and returns when its goroutines have ended.
func (t *tunnel) Close() error {
	t.closeOnce.Do(func() {
		t.tasks.Cancel()
		t.closeAllUpstreams()
		t.tasks.Close()
		t.finder.close()
		t.release()
		t.endWith(nil)
	})
	return nil
}
