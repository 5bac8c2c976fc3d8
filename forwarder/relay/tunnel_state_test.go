package relay

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

func TestTunnelState_OneTrialClientAtATime(t *testing.T) {
	const clients = 20
	r, tn := startRelay(t), openTunnel(t, "tcp")
	var isUp atomic.Bool
	var maxDialing atomic.Int32
	tn.onDial = func(context.Context) error {
		if tn.dials.Load() > 1 && !isUp.Load() { // the first dial made the tunnel suspect
			maxDialing.Store(max(maxDialing.Load(), tn.dialing.Load()))
		}
		if !isUp.Load() {
			return &forwarder.Refusal{Reason: "refused", IsConnectFailure: true}
		}
		return nil
	}
	r.Attach(tn)
	var all []*testConn
	all = append(all, r.dialClient())
	receive(t, r.refusalCh)
	for range clients - 1 {
		all = append(all, r.dialClient())
	}
	for range 5 {
		receive(t, r.refusalCh)
	}
	if maxDialing.Load() != 1 {
		t.Errorf("%d dials at a time", maxDialing.Load())
	}
	isUp.Store(true)
	trial := tn.nextConn(t)
	if n := len(tn.connCh); n != 0 {
		t.Errorf("%d clients were dialed with the trial client", n)
	}
	trial.send("hello")
	servers := []*serverConn{trial}
	for range clients - 1 {
		servers = append(servers, tn.nextConn(t))
	}
	for _, s := range servers[1:] {
		s.send("hello")
	}
	for _, c := range all {
		c.expectText("hello")
	}
}

func TestTunnelState_TrialClientThatStaysConnectedClearsSuspicion(t *testing.T) {
	for _, acknowledges := range []bool{false, true} {
		r, tn := startRelay(t), openTunnel(t, "tcp")
		tn.acknowledges = acknowledges
		tn.onDial = func(context.Context) error {
			if tn.dials.Load() == 1 {
				return &forwarder.Refusal{Reason: "refused", IsConnectFailure: true}
			}
			return nil
		}
		r.Attach(tn)
		for range 3 {
			r.dialClient()
		}
		for range 3 {
			tn.nextConn(t)
		}
		if acknowledges {
			receive(t, r.reachedCh)
		}
	}
}

func TestTunnelState_NextClientIsTriedAfterTrialClientDisconnects(t *testing.T) {
	r, tn := startRelay(t), openTunnel(t, "tcp")
	dialingCh := make(chan struct{}, 10)
	tn.onDial = func(ctx context.Context) error {
		switch tn.dials.Load() {
		case 1:
			return &forwarder.Refusal{Reason: "refused", IsConnectFailure: true}
		case 2:
			dialingCh <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	r.Attach(tn)
	trial := r.dialClient()
	receive(t, dialingCh)
	next := r.dialClient()
	trial.reset()
	pingPong(next, tn.nextConn(t))
}

func TestTunnelState_NewTunnelIsNotSuspect(t *testing.T) {
	r, bad, good := startRelay(t), openTunnel(t, "tcp"), openTunnel(t, "tcp")
	bad.onDial = func(context.Context) error { return &forwarder.Refusal{Reason: "refused", IsConnectFailure: true} }
	r.Attach(bad)
	r.dialClient()
	receive(t, r.refusalCh)
	r.dialClient()
	r.dialClient()
	r.Attach(good)
	for range 3 {
		good.nextConn(t)
	}
}

func TestTunnelState_TrialDelayDoublesToItsMaximum(t *testing.T) {
	ts, trial, now := newTunnelState(nil, defaultTiming), new(client), time.Unix(1000, 0)
	ts.recordRefusal(nil, now)
	for _, want := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
		want *= time.Millisecond
		if wait := ts.nextTrialAt.Sub(now); wait > want || wait < want*3/4-1 {
			t.Errorf("waits %v, want about %v", wait, want)
		}
		ts.trialClient = trial
		ts.recordRefusal(new(client), now) // not the trial client: the delay is not doubled
		ts.recordRefusal(trial, now)
		ts.endTrial()
	}
	ts.clearSuspicion()
	ts.recordRefusal(nil, now)
	if delay := ts.nextTrialAt.Sub(now); delay > defaultTiming.minTrialDelay || delay < defaultTiming.minTrialDelay*3/4-1 {
		t.Errorf("starts again with %v", delay)
	}
}

// What the far end forbids cannot come: no client waits for it, and no other client is held back.
func TestTunnelState_FinalRefusalResetsItsClientAtOnce(t *testing.T) {
	r, tn := startRelay(t), openTunnel(t, "tcp")
	var isAllowed atomic.Bool
	connectedCh := make(chan struct{})
	tn.onDial = func(context.Context) error {
		if isAllowed.Load() {
			return nil
		}
		<-connectedCh // or else the client's own connect would fail
		return &forwarder.Refusal{Reason: "prohibited", IsConnectFailure: true, IsFinal: true}
	}
	r.Attach(tn)
	for range 5 {
		c := r.dialClient()
		connectedCh <- struct{}{}
		receive(t, r.refusalCh)
		c.expectReset()
	}
	if n := tn.dials.Load(); n != 5 {
		t.Errorf("%d dials for 5 clients", n)
	}
	isAllowed.Store(true)
	c := r.dialClient()
	tn.nextConn(t).send("hello")
	c.expectText("hello")
}
