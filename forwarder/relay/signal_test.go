package relay

import (
	"context"
	"errors"
	"testing"

	"github.com/localport-sh/localport/forwarder"
)

// signals records which tunnels the callbacks named.
type signals struct {
	refusals, proofs, panics chan forwarder.Tunnel
}

// recordSignals takes the callbacks of a relay that has no tunnel yet.
func recordSignals(f *fixture) signals {
	s := signals{make(chan forwarder.Tunnel, 64), make(chan forwarder.Tunnel, 64), make(chan forwarder.Tunnel, 64)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.options.OnRefusal = func(t forwarder.Tunnel, _ forwarder.Refusal) { s.refusals <- t }
	f.options.OnProof = func(t forwarder.Tunnel) { s.proofs <- t }
	f.options.OnBroken = func(t forwarder.Tunnel, _ *forwarder.Failure, _ []byte) { s.panics <- t }
	return s
}

func (s signals) expectNoMore(t *testing.T) {
	t.Helper()
	if n := len(s.refusals) + len(s.proofs) + len(s.panics); n > 0 {
		t.Errorf("%d more signals", n)
	}
}

func TestRelay_NamesTheOldTunnelWhenItsReportComesLate(t *testing.T) {
	r, before, after := begin(t), openTunnel(t, "tcp"), openTunnel(t, "tcp")
	signals := recordSignals(r)
	r.Attach(before)
	client := r.dial()
	server := before.next(t)
	r.Attach(after)
	before.refusals <- forwarder.Refusal{Reason: "read error"}
	if about := signal(t, signals.refusals); about != before {
		t.Errorf("the refusal names %v", about)
	}
	server.send("late")
	client.expect("late")
	if about := signal(t, signals.proofs); about != before {
		t.Errorf("the proof names %v", about)
	}
	signals.expectNoMore(t)
}

// blockDial makes a tunnel's first dial wait until the returned function is called, and come out as outcome says.
func blockDial(tn *tunnel, outcome func() error) (dialled <-chan struct{}, release func()) {
	begun, released := make(chan struct{}), make(chan struct{})
	tn.onDial = func(context.Context) error {
		close(begun)
		<-released
		return outcome()
	}
	return begun, func() { close(released) }
}

func TestRelay_NamesTheOldTunnelWhenItsDialIsRefusedLate(t *testing.T) {
	r, before, after := begin(t), openTunnel(t, "tcp"), openTunnel(t, "tcp")
	signals := recordSignals(r)
	dialled, release := blockDial(before, func() error { return &forwarder.Refusal{Reason: "refused", Connect: true} })
	r.Attach(before)
	client := r.dial()
	signal(t, dialled)
	r.Attach(after)
	release()
	if about := signal(t, signals.refusals); about != before {
		t.Errorf("the refusal names %v", about)
	}
	echo(client, after.next(t))
	if about := signal(t, signals.proofs); about != after {
		t.Errorf("the proof names %v", about)
	}
	signals.expectNoMore(t)
}

func TestRelay_NamesTheOldTunnelWhenItsDialPanicsLate(t *testing.T) {
	r, before, after := begin(t), openTunnel(t, "tcp"), openTunnel(t, "tcp")
	signals := recordSignals(r)
	dialled, release := blockDial(before, func() error { panic("it broke") })
	r.Attach(before)
	client := r.dial()
	signal(t, dialled)
	r.Attach(after)
	release()
	if about := signal(t, signals.panics); about != before {
		t.Errorf("the panic names %v", about)
	}
	client.expectReset()
	echo(r.dial(), after.next(t))
}

// countUnused is how much the relay remembers of clients that are gone.
func (f *fixture) countUnused() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.clients) + len(f.dialling) + len(f.queue)
	if f.link != nil {
		n += f.link.flights.dialled
	}
	return n
}

func TestRelay_RemembersNothingOfAClientWhoseDialPanicked(t *testing.T) {
	r, tn := begin(t), openTunnel(t, "tcp")
	signals := recordSignals(r)
	dialled, release := blockDial(tn, func() error { panic("it broke") })
	r.Attach(tn)
	client := r.dial()
	signal(t, dialled)
	release()
	if about := signal(t, signals.panics); about != tn {
		t.Errorf("the panic names %v", about)
	}
	client.expectReset()
	eventually(t, "nothing is remembered", func() bool { return r.countUnused() == 0 })
	r.DropWaiting()
	if s := r.Stats(); s.Open != 0 || s.Waiting != 0 {
		t.Errorf("got %+v", s)
	}
}

func TestRelay_LetsTheNextClientTryWhenTheFirstPanicsOnASuspectTunnel(t *testing.T) {
	r, tn := begin(t), openTunnel(t, "tcp")
	signals := recordSignals(r)
	outcomes := make(chan error, 2)
	outcomes <- &forwarder.Refusal{Reason: "refused", Connect: true}
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
	r.dial().expectReset() // it is refused, and tries again
	if about := signal(t, signals.panics); about != tn {
		t.Errorf("the panic names %v", about)
	}
	echo(r.dial(), tn.next(t))
}

func TestRelay_GivesATunnelUpWhoseReportsCannotBeTaken(t *testing.T) {
	r, tn, after := begin(t), &mute{openTunnel(t, "tcp")}, openTunnel(t, "tcp")
	signals := recordSignals(r)
	r.Attach(tn)
	if about := signal(t, signals.panics); about != forwarder.Tunnel(tn) {
		t.Errorf("the panic names %v", about)
	}
	client := r.waiting()
	r.Attach(after)
	echo(client, after.next(t))
}

// mute is a tunnel that panics when it is asked for its refusals.
type mute struct{ *tunnel }

func (*mute) Refusals() <-chan forwarder.Refusal { panic("it broke") }

func TestRelay_NamesNoTunnelWhenTheAcceptLoopPanicsAndAcceptsAgain(t *testing.T) {
	r, tn := begin(t), openTunnel(t, "tcp")
	signals := recordSignals(r)
	r.Attach(tn)
	r.mu.Lock()
	clients := r.clients
	r.clients = nil // writing to it panics
	r.mu.Unlock()
	if conn, err := dialTCP(r.addr); err == nil { // the reset may come before the kernel tells that there is a connection
		defer conn.Close()
	}
	if about := signal(t, signals.panics); about != nil {
		t.Errorf("the panic names %v", about)
	}
	r.mu.Lock()
	r.clients = clients
	r.mu.Unlock()
	echo(r.dial(), tn.next(t))
}
