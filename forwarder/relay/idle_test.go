package relay

import (
	"testing"
	"time"
)

// A client that has nothing to say and does not close must not stay for ever when the connection has nowhere to lead.
func TestAnIdleClientEndsWithItsTunnel(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			r, tn := begin(t), openTunnel(t, network)
			r.Attach(tn)
			client := r.dial()
			server := tn.next(t)
			server.send("hello")
			client.expect("hello")
			tn.end(nil)
			server.Close()
			client.expectEnd()
			eventually(t, "nothing is open", func() bool { return r.Stats().Open == 0 })
		})
	}
}

func TestAnIdleClientEndsWhenAUnixPeerHasGoneAltogether(t *testing.T) {
	r, tn := begin(t), openTunnel(t, "unix")
	r.Attach(tn)
	client := r.dial()
	server := tn.next(t)
	server.send("hello")
	client.expect("hello")
	server.Close()
	client.expectEnd()
	eventually(t, "nothing is open", func() bool { return r.Stats().Open == 0 })
}

func TestAnEndThroughATunnelThatAcknowledgesIsPassedOnAtOnce(t *testing.T) {
	patient := brisk
	patient.settle = patience // whoever waited for a report would fail the test
	r, tn := run(t, patience, patient), openTunnel(t, "tcp")
	tn.acknowledges = true
	r.Attach(tn)
	client := r.dial()
	began := time.Now()
	tn.next(t).Close()
	client.expectEnd()
	if took := time.Since(began); took > patience/2 {
		t.Errorf("the end took %v", took)
	}
}

func TestTheTimeWithAConnectionIsNoTimeOfWaiting(t *testing.T) {
	const timeout = 200 * time.Millisecond
	r, first := run(t, timeout, brisk), openTunnel(t, "tcp")
	r.Attach(first)
	client := r.dial()
	began := time.Now()
	server := first.next(t)
	eventually(t, "the timeout has passed", func() bool { return time.Since(began) > 2*timeout })
	first.end(nil)
	server.Close()
	second := openTunnel(t, "tcp")
	r.Attach(second)
	echo(client, second.next(t))
}
