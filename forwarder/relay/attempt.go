package relay

import (
	"cmp"
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// attempt is one connection through a tunnel for a client. The client's goroutine is its near side, which carries what
// the client sends; its own goroutine is the far side, which dials and carries what comes back.
type attempt struct {
	client *client
	link   *link
	flight *flight
	forth  *flow
	back   *flow
	done   chan struct{} // closed when the far side has ended

	connected time.Time // guarded by the relay's lock

	// Guarded by the client's mutex.
	up      way
	stage   stage
	sent    int  // bytes of the client's record that this attempt has taken
	exposed bool // a byte of the client's may have arrived at the far end
	again   bool // another attempt is to follow
	ended   [2]bool
	ill     bool // a direction ended because nothing could be written any more
}

// stage is how far an attempt has come.
type stage int

const (
	dialling stage = iota
	early          // connected; no byte has come back
	judging        // ended early; the tunnel may yet say why
	settled        // the connection is what the client gets
	failed         // it was not
)

// The two directions of an attempt.
const (
	near = iota // from the client
	far         // to the client
)

// try makes one attempt through the link that the client was admitted to. It is true when another is to follow.
func (c *client) try() (again bool) {
	a := &attempt{client: c, done: make(chan struct{})}
	c.mu.Lock()
	c.attempt = a
	c.mu.Unlock()
	c.relay.goes(c, a.far, func() {
		c.end(true)
		close(a.done)
	})
	a.near()
	<-a.done
	c.relay.conclude(a)
	return a.again && c.replayable() // a last read may have made the record too long
}

// conclude ends an attempt whose goroutines have ended.
func (r *Relay) conclude(a *attempt) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, unfinished := r.dialling[a.client]; unfinished { // Dial panicked
		r.undial(a.client)
		a.link.flights.undial()
	}
	if a.flight != nil {
		a.link.flights.end(a.flight, now)
	}
	r.release(a.client, now)
	if a.again && !a.client.dropped {
		r.figures.move(a.client, waiting)
	}
}

// far is the far side, from the dial until nothing comes back any more. What waits for bytes is a goroutine of its own:
// the dial's stack has grown, and would stay with the connection for life.
func (a *attempt) far() {
	if !a.dial() {
		close(a.done)
		return
	}
	a.client.relay.goes(a.client, func() {
		a.comeBack()
		close(a.done)
	}, func() {
		a.client.end(true)
		close(a.done)
	})
}

// comeBack carries what comes back.
func (a *attempt) comeBack() {
	o := a.back.read()
	switch {
	case o == more:
		a.land()
		o = a.back.write()
	case o != closed && !a.judge(o):
		return
	}
	if o == more {
		o = a.back.run()
	}
	a.farEnded(o)
}

// farEnded passes the end of what came back on to the client, and stays for a reset that may follow.
func (a *attempt) farEnded(o outcome) {
	c := a.client
	switch o {
	case drained:
		if a.broken() {
			c.end(true)
			break
		}
		_ = c.conn.CloseWrite()
		a.half(far, false)
	case blocked:
		a.half(far, true)
	case broken:
		c.end(true)
	}
	defer a.endWithTunnel()()
	switch err := a.awaitEnd(); {
	case errors.Is(err, errHungUp):
		c.end(false)
	case !errors.Is(err, net.ErrClosed):
		c.end(true)
	}
}

// awaitEnd returns when the connection through the tunnel is over, whose bytes have ended already.
func (a *attempt) awaitEnd() error {
	if up, ok := a.up.(forwarder.Stream); ok {
		return cmp.Or(up.WaitEnd(), errHungUp)
	}
	return watchEnd(a.back.in)
}

// endWithTunnel ends the client when the tunnel does: to a tunnel that is gone nothing more can be sent, and a client
// that has been told the far end's end but says nothing itself would stay for ever. The returned function stops that.
func (a *attempt) endWithTunnel() (stop func()) {
	stopped := make(chan struct{})
	var waiting sync.WaitGroup
	waiting.Go(func() {
		select {
		case <-a.link.over:
			a.client.end(false)
		case <-stopped:
		}
	})
	return func() {
		close(stopped)
		waiting.Wait()
	}
}

// half notes that a direction has ended. With both the connection has.
func (a *attempt) half(direction int, ill bool) {
	c := a.client
	c.mu.Lock()
	a.ended[direction] = true
	a.ill = a.ill || ill
	over, reset := a.ended[near] && a.ended[far], a.ill
	c.mu.Unlock()
	if over {
		c.end(reset)
	}
}

// dial connects through the tunnel. When it is false the attempt has failed and the client is free for another.
func (a *attempt) dial() bool {
	r := a.client.relay
	ctx, cancel := context.WithDeadline(context.Background(), a.client.deadline)
	defer cancel()
	if !r.launch(a, cancel) {
		a.fail()
		return false
	}
	conn, err := a.link.tunnel.Dial(ctx)
	if err == nil {
		err = a.connect(conn)
	}
	r.dialled(a, conn, err)
	if err != nil {
		a.fail()
		return false
	}
	a.client.wake()
	return true
}

// launch begins a dial, unless the client's link is not attached any more.
func (r *Relay) launch(a *attempt, cancel context.CancelFunc) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	a.link = a.client.link
	if a.link != r.link || r.closed || a.client.left() {
		return false
	}
	a.flight = a.link.flights.launch()
	r.dialling[a.client] = cancel
	return true
}

// connect puts the connection in place, unless the client has gone.
func (a *attempt) connect(conn net.Conn) error {
	up, raw, err := wayOf(conn)
	if err != nil {
		conn.Close()
		return err
	}
	c, t := a.client, &a.client.relay.traffic
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		up.Close()
		return net.ErrClosed
	}
	a.up, a.stage = up, early
	a.forth = newFlow(c.conn, c.raw, up, raw, t.countIn)
	a.back = newFlow(up, raw, c.conn, c.raw, t.countOut)
	return nil
}

// dialled notes how a dial came out.
func (r *Relay) dialled(a *attempt, conn net.Conn, err error) {
	if err != nil {
		r.undialled(a, err)
		return
	}
	now, acknowledged := time.Now(), a.link.tunnel.Acknowledges()
	r.mu.Lock()
	r.undial(a.client)
	a.client.dropped = false
	r.figures.move(a.client, open)
	a.connected = now
	a.link.flights.made(a.flight, conn)
	a.link.stands(a.client, now)
	if acknowledged {
		r.prove(a.link, now)
	}
	r.mu.Unlock()
	if acknowledged {
		r.options.OnProof(a.link.tunnel)
	}
}

func (r *Relay) undialled(a *attempt, err error) {
	now := time.Now()
	refusal, refused := errors.AsType[*forwarder.Refusal](err)
	r.mu.Lock()
	cancelled := r.undial(a.client)
	a.link.flights.failed(a.flight, refused, now)
	if !cancelled {
		a.link.doubt(a.client, now)
	}
	r.mu.Unlock()
	if refused {
		r.options.OnRefusal(a.link.tunnel, *refusal)
	} else if !cancelled {
		r.options.Log.Debug("cannot dial through the tunnel", "err", err)
	}
}

// undial ends the dialling of a client. It is true when there is no use in the dial any more: the client has gone or
// was dropped, or the tunnel has.
func (r *Relay) undial(c *client) (cancelled bool) {
	delete(r.dialling, c)
	return c.left() || c.dropped || c.link != r.link
}

// prove lifts the suspicion from a tunnel.
func (r *Relay) prove(l *link, now time.Time) {
	if l.suspect {
		l.trust()
		if l == r.link {
			r.admit(now)
		}
	}
}

// cancelDial ends the dial of a client that has left.
func (r *Relay) cancelDial(c *client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if cancel, ok := r.dialling[c]; ok {
		cancel()
	}
}

// fail ends the attempt and frees the near side for another.
func (a *attempt) fail() {
	c := a.client
	c.mu.Lock()
	a.stage, a.again = failed, !c.over
	up := a.up
	c.mu.Unlock()
	if up != nil {
		up.Close()
	}
	c.wake()
}
