package relay

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

func TestASuspectTunnelIsTriedByOneClientAtATime(t *testing.T) {
	const clients = 20
	r, tn := begin(t), openTunnel(t, "tcp")
	var well atomic.Bool
	var most atomic.Int32
	tn.onDial = func(context.Context) error {
		if tn.dials.Load() > 1 && !well.Load() { // the first made it suspect
			most.Store(max(most.Load(), tn.dialling.Load()))
		}
		if !well.Load() {
			return &forwarder.Refusal{Reason: "refused", Connect: true}
		}
		return nil
	}
	r.Attach(tn)
	var all []*duplex
	all = append(all, r.dial())
	signal(t, r.refused)
	for range clients - 1 {
		all = append(all, r.dial())
	}
	for range 5 {
		signal(t, r.refused)
	}
	if most.Load() != 1 {
		t.Errorf("%d at a time", most.Load())
	}
	well.Store(true)
	scout := tn.next(t)
	if n := len(tn.arrived); n != 0 {
		t.Errorf("%d went with the scout", n)
	}
	scout.send("proof")
	servers := []*served{scout}
	for range clients - 1 {
		servers = append(servers, tn.next(t))
	}
	for _, s := range servers[1:] {
		s.send("proof")
	}
	for _, c := range all {
		c.expect("proof")
	}
}

func TestAScoutThatStaysOpenProvesTheTunnel(t *testing.T) {
	for _, acknowledges := range []bool{false, true} {
		r, tn := begin(t), openTunnel(t, "tcp")
		tn.acknowledges = acknowledges
		tn.onDial = func(context.Context) error {
			if tn.dials.Load() == 1 {
				return &forwarder.Refusal{Reason: "refused", Connect: true}
			}
			return nil
		}
		r.Attach(tn)
		for range 3 {
			r.dial()
		}
		for range 3 {
			tn.next(t)
		}
		if acknowledges {
			signal(t, r.proofs)
		}
	}
}

func TestAScoutThatLeavesMakesRoom(t *testing.T) {
	r, tn := begin(t), openTunnel(t, "tcp")
	dialling := make(chan struct{}, 10)
	tn.onDial = func(ctx context.Context) error {
		switch tn.dials.Load() {
		case 1:
			return &forwarder.Refusal{Reason: "refused", Connect: true}
		case 2:
			dialling <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	r.Attach(tn)
	scout := r.dial()
	signal(t, dialling)
	next := r.dial()
	scout.reset()
	echo(next, tn.next(t))
}

func TestANewTunnelIsNotSuspect(t *testing.T) {
	r, bad, good := begin(t), openTunnel(t, "tcp"), openTunnel(t, "tcp")
	bad.onDial = func(context.Context) error { return &forwarder.Refusal{Reason: "refused", Connect: true} }
	r.Attach(bad)
	r.dial()
	signal(t, r.refused)
	r.dial()
	r.dial()
	r.Attach(good)
	for range 3 {
		good.next(t)
	}
}

func TestTheDelayBetweenScoutsDoublesToItsLimit(t *testing.T) {
	l, scout, now := newLink(nil, usual), new(client), time.Unix(1000, 0)
	l.doubt(nil, now)
	for _, want := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
		want *= time.Millisecond
		if wait := l.next.Sub(now); wait > want || wait < want*3/4-1 {
			t.Errorf("waits %v, want about %v", wait, want)
		}
		l.scout = scout
		l.doubt(new(client), now) // not the scout's: nothing doubles
		l.doubt(scout, now)
		l.dismiss()
	}
	l.trust()
	l.doubt(nil, now)
	if delay := l.next.Sub(now); delay > usual.first || delay < usual.first*3/4-1 {
		t.Errorf("begins anew with %v", delay)
	}
}
