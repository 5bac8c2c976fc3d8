package relay

import (
	"cmp"
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// attempt is one upstream connection for a client. The client's goroutine runs the client side, which copies what the
// client sends; a second goroutine runs the upstream side, which dials and copies what comes back.
type attempt struct {
	client      *client
	tunnelState *tunnelState
	pendingConn *pendingConn
	toUpstream  *copier
	toClient    *copier
	doneCh      chan struct{} // closed when the upstream side has ended

	connectedAt           time.Time   // guarded by the relay's mu
	isUpstreamWriteClosed atomic.Bool // set before the upstream's sending side is closed

	// Guarded by the client's mu. As in client, the small fields are adjacent.
	phase            attemptPhase
	mayHaveDelivered bool // a byte of the client may have reached the server
	shouldRetry      bool // the client is to get another attempt
	hasWriteFailed   bool // a direction ended because of a write error
	upstream         halfCloseConn
	sentBytes        int     // how many bytes of the replay buffer this attempt has sent, or is sending
	hasEnded         [2]bool // by direction
}

// attemptPhase is where an attempt is in its lifecycle.
type attemptPhase uint8

const (
	phaseDialing        attemptPhase = iota
	phaseUnconfirmed                 // connected; no byte has come back yet
	phaseAwaitingReport              // ended before a byte came back; the tunnel may report why
	phaseEstablished                 // no other attempt will be made for this client
	phaseFailed                      // the connection could not be made, or was lost unconfirmed
)

// The two directions of an attempt.
const (
	fromClient = iota
	fromUpstream
)

// connectOnce makes one attempt through the tunnel that the client is admitted to. It returns true if another one is to be
// made.
func (c *client) connectOnce() (shouldRetry bool) {
	a := &attempt{client: c, doneCh: make(chan struct{})}
	c.mu.Lock()
	c.attempt = a
	c.mu.Unlock()
	c.relay.spawn(c, a.runUpstreamSide, func() {
		c.close(true)
		close(a.doneCh)
	})
	a.runClientSide()
	<-a.doneCh
	c.relay.finishAttempt(a)
	return a.shouldRetry && c.canReplay() // the last read may have overflowed the replay buffer
}

// finishAttempt updates the relay after an attempt whose goroutines have ended.
func (r *Relay) finishAttempt(a *attempt) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, isDialing := r.dialCancels[a.client]; isDialing { // Dial panicked
		r.endDial(a.client)
		a.tunnelState.pendingConns.endDial()
	}
	if a.pendingConn != nil {
		a.tunnelState.pendingConns.markEnded(a.pendingConn, now)
	}
	r.releaseTunnel(a.client, now)
	if a.shouldRetry && !a.client.isDropped {
		r.counters.setState(a.client, stateWaiting)
	}
}

// runUpstreamSide dials and copies to the client until the upstream ends. Reading is done by a new goroutine: dialing has
// grown this one's stack, which an idle connection would keep.
func (a *attempt) runUpstreamSide() {
	if !a.dialUpstream() {
		close(a.doneCh)
		return
	}
	a.client.relay.spawn(a.client, func() {
		a.copyToClient()
		close(a.doneCh)
	}, func() {
		a.client.close(true)
		close(a.doneCh)
	})
}

// copyToClient copies what the upstream sends.
func (a *attempt) copyToClient() {
	o := a.toClient.read()
	switch {
	case o == outcomeContinue:
		a.confirmServer()
		o = a.toClient.write()
	case o != outcomeClosed && !a.resolveEarlyEnd(o):
		return
	}
	if o == outcomeContinue {
		o = a.toClient.run()
	}
	a.finishToClient(o)
}

// finishToClient passes the upstream's end on to the client, then waits for a reset that may follow.
func (a *attempt) finishToClient(o outcome) {
	c := a.client
	switch o {
	case outcomeEOF:
		if a.isUpstreamBroken() {
			c.close(true)
			break
		}
		if !a.isClosedByEndOf(fromUpstream) {
			c.isWriteClosed.Store(true)
			closeWrite(c.conn, c.rawConn)
		}
		a.endDirection(fromUpstream, false)
	case outcomeWriteFailed:
		a.endDirection(fromUpstream, true)
	case outcomeReset:
		c.close(true)
	}
	if c.hasClosed() {
		return
	}
	defer a.closeWithTunnel()()
	switch err := a.awaitUpstreamClose(); {
	case errors.Is(err, errPeerClosed):
		c.close(a.isUpstreamBroken() || a.toClient.stream == nil && a.toClient.endOutcome() == outcomeReset)
	case !errors.Is(err, net.ErrClosed):
		c.close(true)
	}
}

// awaitUpstreamClose waits after the upstream's end of data until its connection is closed or reset. It returns
// errPeerClosed for a close, and net.ErrClosed if the connection was closed here.
func (a *attempt) awaitUpstreamClose() error {
	if stream, ok := a.upstream.(forwarder.Stream); ok {
		return cmp.Or(stream.WaitEnd(), errPeerClosed)
	}
	return awaitPeerClose(a.toClient.rawSrc)
}

// closeWithTunnel closes the client when the tunnel is done, until stop is called. Nothing can be sent through that tunnel
// any more, and a client that has seen the upstream's end but neither sends nor closes would stay indefinitely.
func (a *attempt) closeWithTunnel() (stop func()) {
	stoppedCh := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-a.tunnelState.doneCh:
			a.client.close(false)
		case <-stoppedCh:
		}
	})
	return func() {
		close(stoppedCh)
		watching.Wait()
	}
}

// endDirection records that a direction has ended, and closes the client when both have.
func (a *attempt) endDirection(direction int, byWriteError bool) {
	c := a.client
	c.mu.Lock()
	a.hasEnded[direction] = true
	a.hasWriteFailed = a.hasWriteFailed || byWriteError
	haveBothEnded, byReset := a.hasEnded[fromClient] && a.hasEnded[fromUpstream], a.hasWriteFailed
	c.mu.Unlock()
	if haveBothEnded {
		c.close(byReset)
	}
}

// isClosedByEndOf reports whether the proper end of a direction closes the connection, because the other one has ended properly. Closing
// a socket of which everything was read sends the same FIN as closing its sending side first.
func (a *attempt) isClosedByEndOf(direction int) bool {
	a.client.mu.Lock()
	defer a.client.mu.Unlock()
	return a.hasEnded[1-direction] && !a.hasWriteFailed
}

// dialUpstream connects through the tunnel. It returns false if the attempt has failed; the client can make another one.
func (a *attempt) dialUpstream() bool {
	r := a.client.relay
	// No caller's context: the dial belongs to the client, and is canceled through dialCancels when the client, its tunnel or the relay
	// is closed.
	ctx, cancel := context.WithDeadline(context.Background(), a.client.connectDeadline)
	defer cancel()
	if !r.beginDial(a, cancel) {
		a.fail()
		return false
	}
	conn, err := a.tunnelState.tunnel.Dial(ctx)
	if err == nil {
		err = a.setUpstream(conn)
	}
	r.recordDial(a, conn, err)
	if err != nil {
		a.fail()
		return false
	}
	a.client.interruptRead()
	return true
}

// beginDial records a dial. It returns false if the client's tunnel is not attached any more, or the client has closed.
func (r *Relay) beginDial(a *attempt, cancel context.CancelFunc) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	a.tunnelState = a.client.tunnelState
	if a.tunnelState != r.attached || r.isClosed || a.client.hasClosed() {
		return false
	}
	a.pendingConn = a.tunnelState.pendingConns.add()
	r.dialCancels[a.client] = cancel
	return true
}

// setUpstream sets the upstream connection. It closes it instead if the client has closed.
func (a *attempt) setUpstream(conn net.Conn) error {
	upstream, rawConn, err := asUpstream(conn)
	if err != nil {
		conn.Close()
		return err
	}
	c, t := a.client, &a.client.relay.traffic
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isClosed {
		upstream.Close()
		return net.ErrClosed
	}
	a.upstream, a.phase = upstream, phaseUnconfirmed
	a.toUpstream = newCopier(c.conn, c.rawConn, &c.isWriteClosed, upstream, rawConn, t.countIn)
	a.toClient = newCopier(upstream, rawConn, &a.isUpstreamWriteClosed, c.conn, c.rawConn, t.countOut)
	return nil
}

// recordDial records the result of a dial.
func (r *Relay) recordDial(a *attempt, conn net.Conn, err error) {
	if err != nil {
		r.recordDialError(a, err)
		return
	}
	now, isAcknowledged := time.Now(), a.tunnelState.tunnel.Acknowledges()
	r.mu.Lock()
	r.endDial(a.client)
	a.client.isDropped = false
	r.counters.setState(a.client, stateOpen)
	a.connectedAt = now
	a.tunnelState.pendingConns.setConn(a.pendingConn, conn)
	a.tunnelState.recordConnected(a.client, now)
	if isAcknowledged {
		r.confirmTunnel(a.tunnelState, now)
	}
	r.mu.Unlock()
	if isAcknowledged {
		r.options.OnServerReached(a.tunnelState.tunnel)
	}
}

func (r *Relay) recordDialError(a *attempt, err error) {
	now := time.Now()
	refusal, isRefusal := errors.AsType[*forwarder.Refusal](err)
	r.mu.Lock()
	isObsolete := r.endDial(a.client)
	a.tunnelState.pendingConns.recordDialError(a.pendingConn, isRefusal, now)
	isFinal := isRefusal && refusal.IsFinal
	if !isObsolete && !isFinal {
		a.tunnelState.recordRefusal(a.client, now)
	}
	r.mu.Unlock()
	if isFinal && !isObsolete {
		a.client.close(true)
	}
	if isRefusal {
		r.options.OnRefusal(a.tunnelState.tunnel, *refusal)
	} else if !isObsolete {
		r.options.Log.Debug("cannot dial through the tunnel", "error", err)
	}
}

// endDial records that a client's dial has returned. It returns true if the result is of no use: the client has closed or
// was dropped, or its tunnel was detached.
func (r *Relay) endDial(c *client) (isObsolete bool) {
	delete(r.dialCancels, c)
	return c.hasClosed() || c.isDropped || c.tunnelState != r.attached
}

// confirmTunnel records that a connection through the tunnel reached its server.
func (r *Relay) confirmTunnel(ts *tunnelState, now time.Time) {
	if ts.isSuspect {
		ts.clearSuspicion()
		if ts == r.attached {
			r.admitClients(now)
		}
	}
}

// cancelDial cancels the dial of a client that has closed.
func (r *Relay) cancelDial(c *client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if cancel, ok := r.dialCancels[c]; ok {
		cancel()
	}
}

// fail marks the attempt as failed and makes its client side return.
func (a *attempt) fail() {
	c := a.client
	c.mu.Lock()
	a.phase, a.shouldRetry = phaseFailed, !c.isClosed
	upstream := a.upstream
	c.mu.Unlock()
	if upstream != nil {
		upstream.Close()
	}
	c.interruptRead()
}
