// Package relay is the listener that never refuses. It belongs to one service and outlives every tunnel: a client that
// comes while no tunnel is up, or whose tunnel turns out dead before a byte came back, waits and goes through the next.
package relay

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// Options say how long clients wait and who is told what. The callbacks may be nil. They are called from the relay's
// own goroutines, several at once, and must return soon: what they delay is clients. They hold no lock, so they may
// call any method but Close and StopAccepting.
//
// OnRefusal, OnProof and OnBroken name the tunnel that they are about. That need not be the attached one: a report may
// come late, when another tunnel has taken its place.
type Options struct {
	ConnectTimeout time.Duration                             // from accept until a client that found no way is reset; 0: 30 s
	OnWaiting      func()                                    // a client waits and no tunnel is attached
	OnRefusal      func(forwarder.Tunnel, forwarder.Refusal) // the tunnel refused a client's connection, or reported of any
	OnProof        func(forwarder.Tunnel)                    // for a client a dial was acknowledged, or its first byte came back
	OnQuiet        func()                                    // the last client, open or waiting, is gone
	// OnBroken is told of a panic in the relay or in a tunnel's method, with the stack. The client that it was about is
	// reset. The tunnel is nil where none was involved: in the accept loop, or for a client that had not been admitted to one.
	OnBroken func(forwarder.Tunnel, *forwarder.Failure, []byte)
	// OnRoomChange is told that Stats.NoRoom has changed: that there is no room for more clients, or room again.
	OnRoomChange func()
	Seats        *Seats       // which the relay shares with others; nil: it has all that the file limit allows
	Log          *slog.Logger // nil: nothing is logged
}

func (o Options) complete() Options {
	for _, callback := range []*func(){&o.OnWaiting, &o.OnQuiet, &o.OnRoomChange} {
		if *callback == nil {
			*callback = func() {}
		}
	}
	if o.OnProof == nil {
		o.OnProof = func(forwarder.Tunnel) {}
	}
	if o.OnRefusal == nil {
		o.OnRefusal = func(forwarder.Tunnel, forwarder.Refusal) {}
	}
	if o.OnBroken == nil {
		o.OnBroken = func(forwarder.Tunnel, *forwarder.Failure, []byte) {}
	}
	if o.Seats == nil {
		o.Seats = defaultSeats()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Relay accepts a service's clients and carries them through the tunnel of the moment.
type Relay struct {
	options   Options
	pace      pace
	listeners *Listeners
	timeout   atomic.Int64 // ConnectTimeout, which may change
	traffic   traffic
	share     *share

	deaf      chan struct{} // closed when accepting ends
	accepting sync.WaitGroup
	closing   chan struct{}
	running   sync.WaitGroup // everything but the accepting; grows under mu until closed, and by what runs
	stop      sync.Once
	shut      sync.Once
	unshare   sync.Once

	mu        sync.Mutex
	closed    bool
	rejecting bool
	link      *link // the attached tunnel; nil: clients wait
	links     []*link
	clients   map[*client]struct{}
	queue     []*client // who waits to be admitted to a tunnel, in the order of their coming
	dialling  map[*client]context.CancelFunc
	figures   figures
	shortage  shortage
}

// New accepts clients from now on; the listeners are the relay's. Without a tunnel they wait.
func New(ls *Listeners, o Options) *Relay { return start(ls, o, usual) }

func start(ls *Listeners, o Options, p pace) *Relay {
	r := &Relay{
		options:   o.complete(),
		pace:      p,
		listeners: ls,
		deaf:      make(chan struct{}),
		closing:   make(chan struct{}),
		clients:   map[*client]struct{}{},
		dialling:  map[*client]context.CancelFunc{},
	}
	r.share = r.options.Seats.join()
	r.SetConnectTimeout(o.ConnectTimeout)
	for _, l := range ls.tcp {
		r.accepting.Go(func() { r.keepAccepting(l) })
	}
	return r
}

// SetConnectTimeout is for clients that come from now on; 0 means 30 s.
func (r *Relay) SetConnectTimeout(d time.Duration) {
	if d <= 0 {
		d = 30 * time.Second
	}
	r.timeout.Store(int64(d))
}

// tunnelUser is a client or a link: what uses one tunnel at a time.
type tunnelUser interface {
	// currentTunnel is nil while there is none. The relay's lock must not be held.
	currentTunnel() forwarder.Tunnel
}

// goes runs a part of the relay that works for user. If it panics, after is called, and the panic is reported with the
// tunnel that user had at that moment.
func (r *Relay) goes(user tunnelUser, f, after func()) {
	r.running.Go(func() {
		forwarder.Contain(f, func(failure *forwarder.Failure, stack []byte) {
			tunnel := user.currentTunnel() // after may end its use
			after()
			r.options.OnBroken(tunnel, failure, stack)
		})
	})
}

// Attach sends waiting and coming clients through a tunnel, which has to be ready, in the place of the one before. The
// relay takes the tunnel's refusals until it is done; a tunnel that is done detaches itself.
func (r *Relay) Attach(t forwarder.Tunnel) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rejecting = false
	if r.closed || r.link != nil && r.link.tunnel == t {
		return
	}
	r.unlink()
	r.link = r.linkTo(t)
	r.link.trust()
	r.admit(time.Now())
}

// linkTo is the link that a tunnel was given when it was first attached.
func (r *Relay) linkTo(t forwarder.Tunnel) *link {
	for _, l := range r.links {
		if l.tunnel == t {
			return l
		}
	}
	l := newLink(t, r.pace)
	r.links = append(r.links, l)
	r.goes(l, func() { r.tend(l) }, func() { r.done(l) })
	return l
}

// Detach lets clients wait again, if the tunnel is the attached one: no client is dialled through it any more, and a
// dial under way is cancelled. Connections through it go on until they end.
func (r *Relay) Detach(t forwarder.Tunnel) {
	r.mu.Lock()
	if r.link == nil || r.link.tunnel != t {
		r.mu.Unlock()
		return
	}
	r.unlink()
	waiting := len(r.queue) > 0
	r.mu.Unlock()
	if waiting {
		r.options.OnWaiting()
	}
}

// unlink expects mu to be held, as do all methods that do not take it.
func (r *Relay) unlink() {
	if r.link == nil {
		return
	}
	for c, cancel := range r.dialling {
		if c.link == r.link {
			cancel()
		}
	}
	r.link = nil
}

// Hold lets clients wait where there is no tunnel. So it is at the beginning.
func (r *Relay) Hold() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rejecting = false
	r.admit(time.Now())
}

// Reject resets the waiting clients, and every coming one at once, until Hold or Attach.
func (r *Relay) Reject() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rejecting = true
	r.dropWaiting()
}

// DropWaiting resets the clients that wait now.
func (r *Relay) DropWaiting() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropWaiting()
}

func (r *Relay) dropWaiting() {
	for _, c := range r.queue {
		r.drop(c)
		c.wake()
	}
	r.queue = nil
	for c, cancel := range r.dialling {
		r.drop(c)
		cancel()
	}
}

// StopAccepting closes the listeners and returns when nobody accepts any more; clients that came before are served as
// ever. Where a copy of a listener was handed over, connections queue up there.
func (r *Relay) StopAccepting() {
	r.stop.Do(func() {
		close(r.deaf)
		r.listeners.Close()
	})
	r.accepting.Wait()
}

// Close closes the listeners, then resets every client, and returns when nothing of the relay runs any more. Tunnels
// stay their owners' to close. The error is always nil.
func (r *Relay) Close() error {
	r.StopAccepting()
	r.shut.Do(func() {
		r.mu.Lock()
		r.closed = true
		clients := make([]*client, 0, len(r.clients))
		for c := range r.clients {
			clients = append(clients, c)
		}
		for _, cancel := range r.dialling {
			cancel()
		}
		r.mu.Unlock()
		close(r.closing)
		for _, c := range clients {
			c.end(true)
		}
	})
	r.running.Wait()
	r.unshare.Do(r.share.leave)
	return nil
}

// enter takes in an accepted client that has a seat.
func (r *Relay) enter(conn *net.TCPConn, arrived time.Time) {
	c, err := newClient(r, conn, arrived)
	entered := false
	defer func() {
		if !entered {
			reset(conn)
			r.share.release()
		}
	}()
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clients[c] = struct{}{}
	entered = true
	r.figures.enter(c)
	r.goes(c, c.serve, c.abort)
}

// leave is the end of a client whose sockets are closed.
func (r *Relay) leave(c *client) {
	now := time.Now()
	r.mu.Lock()
	if _, in := r.clients[c]; !in { // OnQuiet panicked
		r.mu.Unlock()
		return
	}
	r.forget(c)
	r.release(c, now)
	delete(r.clients, c)
	r.figures.leave(c)
	quiet := len(r.clients) == 0
	r.mu.Unlock()
	r.share.release()
	if quiet {
		r.options.OnQuiet()
	}
}

// forget takes a client out of the queue.
func (r *Relay) forget(c *client) {
	if i := slices.Index(r.queue, c); i >= 0 {
		r.queue = slices.Delete(r.queue, i, i+1)
	}
}
