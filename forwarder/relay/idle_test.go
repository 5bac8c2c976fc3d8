package relay

import (
	"testing"
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
