package ssh

import (
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/sshd"
	"github.com/localport-sh/localport/testdata/tunneltest"
)

func TestMaster_LivenessCheckEndsUnresponsiveMaster(t *testing.T) {
	server := sshd.Start(t)
	svc := newService(server, startBackend(t))
	svc.Connection.Settings["options"] = map[string]string{"ServerAliveInterval": "60"}
	tunnel := openDirect(t, svc)
	tunnel.CheckConnection()
	requireWelcome(t, dialTunnel(t, tunnel))
	defer server.Kill() // else the backend would wait for its clients
	server.Freeze()
	tunnel.CheckConnection()
	checkTransient(t, tunneltest.WaitFailure(t, tunnel), "the ssh server did not answer within 3s")
}

// A ping sent before a check was requested does not answer it.
func TestMaster_SecondLivenessCheckPingsAgain(t *testing.T) {
	server := sshd.Start(t)
	svc := newService(server, startBackend(t))
	svc.Connection.Settings["options"] = map[string]string{"ServerAliveInterval": "60"}
	tunnel := openDirect(t, svc)
	before := tunnel.master.conn.RefusalCount() // each ping is a refused channel
	server.Freeze()
	tunnel.CheckConnection()
	tunnel.CheckConnection()
	server.Thaw()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(10 * time.Second)
	for tunnel.master.conn.RefusalCount() < before+2 {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%d pings", tunnel.master.conn.RefusalCount()-before)
		}
	}
}
