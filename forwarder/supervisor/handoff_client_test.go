package supervisor

import (
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/localport-sh/localport/forwarder/relay"
)

// startHandoffClient has a keeper run, which this program plays.
func startHandoffClient(t *testing.T) *handoffClient {
	t.Helper()
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	k := &handoffClient{exe: exe, log: slog.New(slog.DiscardHandler), onKeeperStarted: func(int) {}, missing: make(map[string]bool)}
	if k.ensureKeeper() == nil {
		t.Fatal("no keeper")
	}
	t.Cleanup(k.endKeeper)
	return k
}

func bindEphemeralPort(t *testing.T) *relay.Listeners {
	t.Helper()
	listeners, err := relay.BindListeners([]netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(listeners.Close)
	return listeners
}

// isOpen reports whether a port is open after it was closed in this process.
func isOpen(listeners *relay.Listeners) bool {
	listeners.Close()
	conn, err := net.Dial("tcp", listeners.Addrs()[0].String())
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// A service's address may change at the moment when the old one has just been bound.
func TestHandoffClient_DropOfOldPortKeepsCopyOfNewPort(t *testing.T) {
	for name, isLate := range map[string]bool{"old port held first": false, "old port held last": true} {
		t.Run(name, func(t *testing.T) {
			k := startHandoffClient(t)
			before, after := bindEphemeralPort(t), bindEphemeralPort(t)
			var kept [2]*heldFiles
			if isLate {
				kept[1] = k.hold("service web", after.Files)
				kept[0] = k.hold("service web", before.Files)
			} else {
				kept[0] = k.hold("service web", before.Files)
				kept[1] = k.hold("service web", after.Files)
			}
			k.drop(kept[0])
			if isOpen(before) {
				t.Error("the keeper has a copy of the old port")
			}
			if !isOpen(after) {
				t.Error("the keeper has no copy of the new port")
			}
			k.drop(kept[1])
			if isOpen(after) {
				t.Error("the keeper still has a copy of the new port")
			}
		})
	}
}
