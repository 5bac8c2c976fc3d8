// Package relay is the listener that never refuses. It accepts a service's clients whatever its tunnel is doing, holds
// them while there is none, and loses none to a tunnel that turns out dead on first use: as long as it is certain that
// a server has seen nothing of a client, the client is given another attempt.
package relay

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// Options are a relay's settings and whom it tells. The callbacks may come at any time and from many goroutines at
// once; they must not block. Those that are nil are not called.
type Options struct {
	ConnectTimeout time.Duration           // from accept until a client that got nowhere is reset
	OnWaiting      func()                  // a client has begun to wait for a tunnel
	OnRefusal      func(forwarder.Refusal) // a tunnel reported something about a connection
	OnProof        func()                  // a client's connection reached the far end
	OnQuiet        func()                  // the last client has left
	Log            *slog.Logger
}

// Relay accepts the clients of one service and carries them through whatever tunnel is attached.
type Relay struct {
	o         Options
	listeners *Listeners
	timeout   atomic.Int64
	counts    counts
	ctx       context.Context // ends with Close
	cancel    context.CancelFunc
	accepting sync.WaitGroup
	work      sync.WaitGroup

	mu      sync.Mutex
	line    *line         // the attached tunnel; nil: clients wait
	reject  bool          // with no line, clients are reset instead
	changed chan struct{} // closed when one of the above changes
	drop    chan struct{} // closed to reset those who wait now
}

// New accepts on the listeners from now on; they are the relay's. Clients are held until a tunnel is attached.
func New(listeners *Listeners, o Options) *Relay {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	r := &Relay{o: o, listeners: listeners, changed: make(chan struct{}), drop: make(chan struct{})}
	r.timeout.Store(int64(o.ConnectTimeout))
	r.ctx, r.cancel = context.WithCancel(context.Background())
	for _, ln := range listeners.list {
		r.accepting.Go(func() { r.accept(ln) })
	}
	return r
}

// SetConnectTimeout changes the timeout for clients that come from now on.
func (r *Relay) SetConnectTimeout(d time.Duration) { r.timeout.Store(int64(d)) }

// Attach carries waiting and coming clients through t, and takes what it reports. Another tunnel that was attached
// keeps the clients that it has. A tunnel that ends detaches itself.
func (r *Relay) Attach(t forwarder.Tunnel) {
	l := newLine(r, t)
	r.work.Go(l.listen)
	r.change(func() { r.line, r.reject = l, false })
}

// Detach makes clients wait again, if t is attached.
func (r *Relay) Detach(t forwarder.Tunnel) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.line != nil && r.line.tunnel == t {
		r.line = nil
		r.tellLocked()
	}
}

// Hold makes clients wait while no tunnel is attached, as they do at first.
func (r *Relay) Hold() { r.change(func() { r.reject = false }) }

// Reject resets waiting and coming clients while no tunnel is attached, until Hold or Attach.
func (r *Relay) Reject() { r.change(func() { r.reject = true }) }

// DropWaiting resets those who wait now.
func (r *Relay) DropWaiting() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.drop)
	r.drop = make(chan struct{})
}

func (r *Relay) change(what func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	what()
	r.tellLocked()
}

func (r *Relay) tellLocked() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// standing is where a client that wants to go through stands.
type standing struct {
	line    *line
	reject  bool
	changed <-chan struct{}
	drop    <-chan struct{}
}

func (r *Relay) standing() standing {
	r.mu.Lock()
	defer r.mu.Unlock()
	return standing{r.line, r.reject, r.changed, r.drop}
}

// StopAccepting closes the listeners. Clients that were accepted go on.
func (r *Relay) StopAccepting() {
	r.listeners.Close()
	r.accepting.Wait()
}

// Close closes the listeners, resets whoever waits, ends every connection, and returns when nothing is left.
func (r *Relay) Close() error {
	r.StopAccepting()
	r.cancel()
	r.work.Wait()
	return nil
}

// accept accepts until the listener is closed. Running out of descriptors is no reason to end: somebody's connection
// will close.
func (r *Relay) accept(ln *net.TCPListener) {
	const least, most = 5 * time.Millisecond, time.Second
	backoff := least
	for {
		conn, err := ln.AcceptTCP()
		switch {
		case err == nil:
			backoff = least
			r.work.Go(func() { r.serve(conn) })
		case errors.Is(err, net.ErrClosed):
			return
		default:
			r.o.Log.Warn("accept", "address", ln.Addr().String(), "error", err, "again_in", backoff)
			if !r.pause(backoff) {
				return
			}
			backoff = min(2*backoff, most)
		}
	}
}

// pause waits; false if the relay is closed first.
func (r *Relay) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.ctx.Done():
		return false
	}
}
