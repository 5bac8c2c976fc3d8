// Package relay accepts the clients of one service and connects them through whichever tunnel is attached. A client
// that connects while no tunnel is attached, or whose tunnel fails before a byte has come back, waits for the next one.
package relay

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// Options are a relay's settings and callbacks. Each callback may be nil. Callbacks are called concurrently, from the
// relay's own goroutines, and must return soon, because clients wait meanwhile. No lock is held, so that they may call
// any method except Close and StopAccepting.
//
// OnRefusal, OnServerReached and OnPanic are given the tunnel that they are about. It need not be the attached one: a
// refusal can arrive after another tunnel has been attached.
type Options struct {
	ConnectTimeout  time.Duration                             // from accept until a client that could not be connected is reset; 0: 30 s
	OnWaiting       func()                                    // a client waits and no tunnel is attached
	OnRefusal       func(forwarder.Tunnel, forwarder.Refusal) // a dial for a client was refused, or the tunnel reported a refusal
	OnServerReached func(forwarder.Tunnel)                    // a client's dial was acknowledged, or its first byte came back
	OnLastClient    func()                                    // the last client, open or waiting, has disconnected
	// OnPanic is called after a panic in the relay or in a tunnel's method, with the stack. The client that was being
	// served is reset. The tunnel is nil in the accept loop and for a client that was not admitted to a tunnel.
	OnPanic func(forwarder.Tunnel, *forwarder.Failure, []byte)
	// OnShortageChange is called when Stats.Shortage has changed.
	OnShortageChange func()
	MaxConnections   int // how many clients are served at once; 0: no limit
	// FindMainProcess says which process has most of these clients' sockets, and how many; empty: it is not known. It may take some time.
	FindMainProcess func(clients []netip.AddrPort) string
	Slots           *SlotAllocator // shared with other relays; nil: this relay alone has all that the file limit allows
	Log             *slog.Logger   // nil: nothing is logged
}

func (o Options) withDefaults() Options {
	for _, callback := range []*func(){&o.OnWaiting, &o.OnLastClient, &o.OnShortageChange} {
		if *callback == nil {
			*callback = func() {}
		}
	}
	if o.OnServerReached == nil {
		o.OnServerReached = func(forwarder.Tunnel) {}
	}
	if o.OnRefusal == nil {
		o.OnRefusal = func(forwarder.Tunnel, forwarder.Refusal) {}
	}
	if o.OnPanic == nil {
		o.OnPanic = func(forwarder.Tunnel, *forwarder.Failure, []byte) {}
	}
	if o.FindMainProcess == nil {
		o.FindMainProcess = func([]netip.AddrPort) string { return "" }
	}
	if o.Slots == nil {
		o.Slots = newDefaultSlots()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Relay accepts a service's clients and connects them through the attached tunnel.
type Relay struct {
	options        Options
	timing         timing
	listeners      *Listeners
	connectTimeout atomic.Int64 // in nanoseconds
	traffic        traffic
	slots          *slotShare

	acceptClosedCh  chan struct{} // closed by StopAccepting
	acceptLoops     sync.WaitGroup
	closingCh       chan struct{}  // closed by Close
	goroutines      sync.WaitGroup // all but acceptLoops; Go is called under mu while !isClosed, or by one of these goroutines
	stopOnce        sync.Once
	closeOnce       sync.Once
	removeShareOnce sync.Once

	// mu guards the fields below, every tunnelState and pendingConn, and the fields of clients and attempts that say
	// so. Methods that do not take it expect it to be held. A client's mu is never held while it is taken.
	mu          sync.Mutex
	isClosed    bool
	isStopped   bool         // StopAccepting was called
	added       []*Listeners // of AddListeners, without those that were removed
	isRejecting bool
	attached    *tunnelState   // nil: clients wait
	tunnels     []*tunnelState // the attached one and detached ones that are not done
	clients     map[*client]struct{}
	waitQueue   []*client // clients not yet admitted to a tunnel, in the order of arrival
	dialCancels map[*client]context.CancelFunc
	counters    clientCounters
	shortage    shortage
	limit       limit
}

// New starts a relay, which owns the listeners from now on. No tunnel is attached: clients wait.
func New(ls *Listeners, o Options) *Relay { return newRelay(ls, o, defaultTiming) }

func newRelay(ls *Listeners, o Options, t timing) *Relay {
	r := &Relay{
		options:        o.withDefaults(),
		timing:         t,
		listeners:      ls,
		acceptClosedCh: make(chan struct{}),
		closingCh:      make(chan struct{}),
		clients:        map[*client]struct{}{},
		dialCancels:    map[*client]context.CancelFunc{},
	}
	r.limit = limit{max: o.MaxConnections, changedCh: make(chan struct{}, 1)}
	r.slots = r.options.Slots.addShare()
	r.SetConnectTimeout(o.ConnectTimeout)
	for _, l := range ls.tcp {
		r.acceptLoops.Go(func() { r.runAcceptLoop(l) })
	}
	return r
}

// SetConnectTimeout sets the timeout of clients that connect from now on; 0 means 30 s.
func (r *Relay) SetConnectTimeout(d time.Duration) {
	if d <= 0 {
		d = 30 * time.Second
	}
	r.connectTimeout.Store(int64(d))
}

// tunnelUser is what a goroutine of the relay works for: a client or a tunnelState.
type tunnelUser interface {
	// currentTunnel returns nil while there is none. The relay's mu must not be held.
	currentTunnel() forwarder.Tunnel
}

// spawn calls run in a goroutine. If it panics, onPanic is called, and the panic is reported with the tunnel that user
// had at that moment.
func (r *Relay) spawn(user tunnelUser, run, onPanic func()) {
	r.goroutines.Go(func() {
		forwarder.CatchPanic(run, func(failure *forwarder.Failure, stack []byte) {
			tunnel := user.currentTunnel() // onPanic may release it
			onPanic()
			r.options.OnPanic(tunnel, failure, stack)
		})
	})
}

// Attach connects waiting and future clients through a tunnel, which must be ready, instead of the one attached before.
// The relay reads the tunnel's refusals until it is done, and detaches it then.
func (r *Relay) Attach(t forwarder.Tunnel) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.isRejecting = false
	if r.isClosed || r.attached != nil && r.attached.tunnel == t {
		return
	}
	r.detachCurrent()
	r.attached = r.trackTunnel(t)
	r.attached.clearSuspicion()
	r.admitClients(time.Now())
}

// trackTunnel returns the state of a tunnel, which it creates when the tunnel is attached for the first time.
func (r *Relay) trackTunnel(t forwarder.Tunnel) *tunnelState {
	for _, ts := range r.tunnels {
		if ts.tunnel == t {
			return ts
		}
	}
	ts := newTunnelState(t, r.timing)
	r.tunnels = append(r.tunnels, ts)
	r.spawn(ts, func() { r.watchTunnel(ts) }, func() { r.forgetTunnel(ts) })
	return ts
}

// Detach makes clients wait again, if the tunnel is the attached one. Dials in progress are canceled; established
// connections through the tunnel go on until they end.
func (r *Relay) Detach(t forwarder.Tunnel) {
	r.mu.Lock()
	if r.attached == nil || r.attached.tunnel != t {
		r.mu.Unlock()
		return
	}
	r.detachCurrent()
	hasWaiting := len(r.waitQueue) > 0
	r.mu.Unlock()
	if hasWaiting {
		r.options.OnWaiting()
	}
}

func (r *Relay) detachCurrent() {
	if r.attached == nil {
		return
	}
	for c, cancel := range r.dialCancels {
		if c.tunnelState == r.attached {
			cancel()
		}
	}
	r.attached = nil
}

// Hold makes clients wait while no tunnel is attached. It is the initial mode.
func (r *Relay) Hold() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.isRejecting = false
	r.admitClients(time.Now())
}

// Reject resets the waiting clients, and every new one as soon as it is accepted, until Hold or Attach.
func (r *Relay) Reject() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.isRejecting = true
	r.dropWaitingClients()
}

// DropWaiting resets the clients that are waiting or being dialed at the moment.
func (r *Relay) DropWaiting() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropWaitingClients()
}

func (r *Relay) dropWaitingClients() {
	for _, c := range r.waitQueue {
		r.markDropped(c)
		c.interruptRead()
	}
	r.waitQueue = nil
	for c, cancel := range r.dialCancels {
		r.markDropped(c)
		cancel()
	}
}

// StopAccepting closes the listeners and returns when the accept loops have ended. Accepted clients are served on.
// New connections queue up in the kernel where another process has a copy of the listener.
func (r *Relay) StopAccepting() {
	r.stopOnce.Do(func() {
		r.mu.Lock()
		r.isStopped = true
		added := slices.Clone(r.added)
		r.mu.Unlock()
		close(r.acceptClosedCh)
		for _, ls := range append(added, r.listeners) {
			ls.Close()
		}
	})
	r.acceptLoops.Wait()
}

// AddListeners accepts clients on further listeners too, which the relay owns from now on. After StopAccepting it closes them and returns false.
func (r *Relay) AddListeners(ls *Listeners) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.isStopped {
		ls.Close()
		return false
	}
	r.added = append(r.added, ls)
	for _, l := range ls.tcp {
		r.acceptLoops.Go(func() { r.runAcceptLoop(l) })
	}
	return true
}

// RemoveListeners closes listeners of AddListeners. Clients that were accepted stay.
func (r *Relay) RemoveListeners(ls *Listeners) {
	r.mu.Lock()
	r.added = slices.DeleteFunc(r.added, func(other *Listeners) bool { return other == ls })
	r.mu.Unlock()
	ls.Close()
}

// Close closes the listeners, resets every client, and returns when all goroutines of the relay have ended. It does not
// close tunnels. The error is always nil.
func (r *Relay) Close() error {
	r.StopAccepting()
	r.closeOnce.Do(func() {
		r.mu.Lock()
		r.isClosed = true
		clients := slices.Collect(maps.Keys(r.clients))
		for _, cancel := range r.dialCancels {
			cancel()
		}
		r.mu.Unlock()
		close(r.closingCh)
		for _, c := range clients {
			c.close(true)
		}
	})
	r.goroutines.Wait()
	r.removeShareOnce.Do(r.slots.remove)
	return nil
}

// addClient serves an accepted client, which has a slot.
func (r *Relay) addClient(conn *net.TCPConn, arrivedAt time.Time) {
	c, err := newClient(r, conn, arrivedAt)
	isAdded := false
	defer func() {
		if !isAdded {
			resetConn(conn)
			r.slots.release()
		}
	}()
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clients[c] = struct{}{}
	isAdded = true
	r.counters.addClient(c)
	r.spawn(c, c.serve, c.cleanUpAfterPanic)
}

// removeClient forgets a client whose sockets are closed.
func (r *Relay) removeClient(c *client) {
	now := time.Now()
	r.mu.Lock()
	if _, ok := r.clients[c]; !ok { // called again because OnLastClient panicked
		r.mu.Unlock()
		return
	}
	r.removeFromQueue(c)
	r.releaseTunnel(c, now)
	delete(r.clients, c)
	r.counters.removeClient(c)
	if c.isServed {
		r.limit.stopServing(c)
		r.admitClients(now)
	}
	isLast := len(r.clients) == 0
	r.mu.Unlock()
	r.slots.release()
	if isLast {
		r.options.OnLastClient()
	}
}

func (r *Relay) removeFromQueue(c *client) {
	if i := slices.Index(r.waitQueue, c); i >= 0 {
		r.waitQueue = slices.Delete(r.waitQueue, i, i+1)
	}
}
