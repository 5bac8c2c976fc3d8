package relay

import (
	"context"
	"errors"
	"testing"

	"github.com/localport-sh/localport/forwarder"
)

// callbackRecorder records the tunnels that callbacks are given.
type callbackRecorder struct {
	refusals, reached, panics chan forwarder.Tunnel
}

// recordCallbacks replaces the callbacks of a relay that has no tunnel yet.
func recordCallbacks(f *relayFixture) callbackRecorder {
	r := callbackRecorder{make(chan forwarder.Tunnel, 64), make(chan forwarder.Tunnel, 64), make(chan forwarder.Tunnel, 64)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.options.OnRefusal = func(t forwarder.Tunnel, _ forwarder.Refusal) { r.refusals <- t }
	f.options.OnServerReached = func(t forwarder.Tunnel) { r.reached <- t }
	f.options.OnPanic = func(t forwarder.Tunnel, _ *forwarder.Failure, _ []byte) { r.panics <- t }
	return r
}

func (r callbackRecorder) expectNoMore(t *testing.T) {
	t.Helper()
	if n := len(r.refusals) + len(r.reached) + len(r.panics); n > 0 {
		t.Errorf("%d more callbacks", n)
	}
}

func TestRelay_LateRefusalNamesTheOldTunnel(t *testing.T) {
	r, first, second := startRelay(t), openTunnel(t, "tcp"), openTunnel(t, "tcp")
	callbacks := recordCallbacks(r)
	r.Attach(first)
	client := r.dialClient()
	server := first.nextConn(t)
	r.Attach(second)
	first.refusalCh <- forwarder.Refusal{Reason: "read error"}
	if tunnel := receive(t, callbacks.refusals); tunnel != first {
		t.Errorf("OnRefusal is given %v", tunnel)
	}
	server.send("late")
	client.expectText("late")
	if tunnel := receive(t, callbacks.reached); tunnel != first {
		t.Errorf("OnServerReached is given %v", tunnel)
	}
	callbacks.expectNoMore(t)
}

// blockFirstDial makes a tunnel's first dial block until release is called; then it returns result().
func blockFirstDial(tn *scriptedTunnel, result func() error) (dialingCh <-chan struct{}, release func()) {
	begunCh, releasedCh := make(chan struct{}), make(chan struct{})
	tn.onDial = func(context.Context) error {
		close(begunCh)
		<-releasedCh
		return result()
	}
	return begunCh, func() { close(releasedCh) }
}

func TestRelay_LateDialRefusalNamesTheOldTunnel(t *testing.T) {
	r, first, second := startRelay(t), openTunnel(t, "tcp"), openTunnel(t, "tcp")
	callbacks := recordCallbacks(r)
	dialingCh, release := blockFirstDial(first, func() error { return &forwarder.Refusal{Reason: "refused", IsConnectFailure: true} })
	r.Attach(first)
	client := r.dialClient()
	receive(t, dialingCh)
	r.Attach(second)
	release()
	if tunnel := receive(t, callbacks.refusals); tunnel != first {
		t.Errorf("OnRefusal is given %v", tunnel)
	}
	pingPong(client, second.nextConn(t))
	if tunnel := receive(t, callbacks.reached); tunnel != second {
		t.Errorf("OnServerReached is given %v", tunnel)
	}
	callbacks.expectNoMore(t)
}

func TestRelay_LateDialPanicNamesTheOldTunnel(t *testing.T) {
	r, first, second := startRelay(t), openTunnel(t, "tcp"), openTunnel(t, "tcp")
	callbacks := recordCallbacks(r)
	dialingCh, release := blockFirstDial(first, func() error { panic("it broke") })
	r.Attach(first)
	client := r.dialClient()
	receive(t, dialingCh)
	r.Attach(second)
	release()
	if tunnel := receive(t, callbacks.panics); tunnel != first {
		t.Errorf("OnPanic is given %v", tunnel)
	}
	client.expectReset()
	pingPong(r.dialClient(), second.nextConn(t))
}

// countRemembered returns how many entries the relay holds for clients.
func (f *relayFixture) countRemembered() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.clients) + len(f.dialCancels) + len(f.waitQueue)
	if f.attached != nil {
		n += f.attached.pendingConns.dialing
	}
	return n
}

func TestRelay_ForgetsClientAfterDialPanic(t *testing.T) {
	r, tn := startRelay(t), openTunnel(t, "tcp")
	callbacks := recordCallbacks(r)
	dialingCh, release := blockFirstDial(tn, func() error { panic("it broke") })
	r.Attach(tn)
	client := r.dialClient()
	receive(t, dialingCh)
	release()
	if tunnel := receive(t, callbacks.panics); tunnel != tn {
		t.Errorf("OnPanic is given %v", tunnel)
	}
	client.expectReset()
	eventually(t, "the relay has forgotten the client", func() bool { return r.countRemembered() == 0 })
	r.DropWaiting()
	if s := r.Stats(); s.Open != 0 || s.Waiting != 0 {
		t.Errorf("got %+v", s)
	}
}

func TestRelay_DialsNextTrialClientAfterDialPanic(t *testing.T) {
	r, tn := startRelay(t), openTunnel(t, "tcp")
	callbacks := recordCallbacks(r)
	outcomes := make(chan error, 2)
	outcomes <- &forwarder.Refusal{Reason: "refused", IsConnectFailure: true}
	outcomes <- errors.New("panic")
	tn.onDial = func(context.Context) error {
		select {
		case err := <-outcomes:
			if _, refused := errors.AsType[*forwarder.Refusal](err); refused {
				return err
			}
			panic(err)
		default:
			return nil
		}
	}
	r.Attach(tn)
	r.dialClient().expectReset() // its first dial is refused, and the second one panics
	if tunnel := receive(t, callbacks.panics); tunnel != tn {
		t.Errorf("OnPanic is given %v", tunnel)
	}
	pingPong(r.dialClient(), tn.nextConn(t))
}

func TestRelay_DetachesTunnelWhoseRefusalsPanics(t *testing.T) {
	r, tn, second := startRelay(t), &panickingTunnel{openTunnel(t, "tcp")}, openTunnel(t, "tcp")
	callbacks := recordCallbacks(r)
	r.Attach(tn)
	if tunnel := receive(t, callbacks.panics); tunnel != forwarder.Tunnel(tn) {
		t.Errorf("OnPanic is given %v", tunnel)
	}
	client := r.dialWaitingClient()
	r.Attach(second)
	pingPong(client, second.nextConn(t))
}

// panickingTunnel panics in Refusals.
type panickingTunnel struct{ *scriptedTunnel }

func (*panickingTunnel) Refusals() <-chan forwarder.Refusal { panic("it broke") }

func TestRelay_AcceptsAgainAfterAcceptLoopPanic(t *testing.T) {
	r, tn := startRelay(t), openTunnel(t, "tcp")
	callbacks := recordCallbacks(r)
	r.Attach(tn)
	r.mu.Lock()
	clients := r.clients
	r.clients = nil // writing to it panics
	r.mu.Unlock()
	if conn, err := dialTCP(r.addr); err == nil { // the connection may be reset before connect returns
		defer conn.Close()
	}
	if tunnel := receive(t, callbacks.panics); tunnel != nil {
		t.Errorf("OnPanic is given %v", tunnel)
	}
	r.mu.Lock()
	r.clients = clients
	r.mu.Unlock()
	pingPong(r.dialClient(), tn.nextConn(t))
}
