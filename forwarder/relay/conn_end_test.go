package relay

import (
	"testing"
	"time"
)

func TestRelay_ClosesIdleClientWhenItsTunnelEnds(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			r, tn := startRelay(t), openTunnel(t, network)
			r.Attach(tn)
			client := r.dialClient()
			server := tn.nextConn(t)
			server.send("hello")
			client.expectText("hello")
			tn.end(nil)
			server.Close()
			client.expectEOF()
			eventually(t, "nothing is open", func() bool { return r.Stats().Open == 0 })
		})
	}
}

func TestRelay_ClosesIdleClientWhenUnixUpstreamCloses(t *testing.T) {
	r, tn := startRelay(t), openTunnel(t, "unix")
	r.Attach(tn)
	client := r.dialClient()
	server := tn.nextConn(t)
	server.send("hello")
	client.expectText("hello")
	server.Close()
	client.expectEOF()
	eventually(t, "nothing is open", func() bool { return r.Stats().Open == 0 })
}

func TestRelay_PassesOnEarlyEndAtOnceIfTunnelAcknowledges(t *testing.T) {
	timing := fastTiming
	timing.reportWindow = testTimeout // a wait for a report would fail the test
	r, tn := startRelayWithTiming(t, testTimeout, timing), openTunnel(t, "tcp")
	tn.acknowledges = true
	r.Attach(tn)
	client := r.dialClient()
	start := time.Now()
	tn.nextConn(t).Close()
	client.expectEOF()
	if took := time.Since(start); took > testTimeout/2 {
		t.Errorf("passing on the end took %v", took)
	}
}

func TestRelay_ConnectTimeoutExcludesTimeConnected(t *testing.T) {
	const timeout = 2 * time.Second
	r, first := startRelayWithTiming(t, timeout, fastTiming), openTunnel(t, "tcp")
	r.Attach(first)
	client := r.dialClient()
	start := time.Now()
	server := first.nextConn(t)
	eventually(t, "the timeout has passed", func() bool { return time.Since(start) > 2*timeout })
	first.end(nil)
	server.Close()
	second := openTunnel(t, "tcp")
	r.Attach(second)
	pingPong(client, second.nextConn(t))
}
