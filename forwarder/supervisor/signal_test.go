package supervisor

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

func TestForward_IgnoresSignalsAboutTheTunnelBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before, after := newTunnel(), newTunnel()
		c := embark(t, testHost(), plain("db"), well, func(n int) (forwarder.Tunnel, error) {
			return []forwarder.Tunnel{before, after}[min(n, 2)-1], nil
		})
		defer c.stop()
		c.is(t, forwarder.Healthy)
		before.end(&forwarder.Failure{Reason: "it ended"})
		synctest.Wait()
		signalAll := func() {
			c.about(before, func() {
				c.refused <- forwarder.Refusal{Reason: "refused", Connect: true}
				c.broke <- &forwarder.Failure{Reason: "it broke"}
			})
		}
		signalAll() // between the two tunnels
		time.Sleep(2 * time.Second)
		c.is(t, forwarder.Healthy)
		signalAll() // while the second is up
		c.is(t, forwarder.Healthy)
		if n := len(c.tech.times()); n != 2 {
			t.Errorf("%d tunnels were opened", n)
		}
		c.about(after, func() { c.refused <- forwarder.Refusal{Reason: "refused", Connect: true} })
		c.is(t, forwarder.Unhealthy)
	})
}
