package supervisor

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder/relay"
	"github.com/localport-sh/localport/forwarder/wait"
)

// startHandoffClient has a keeper run, which this program plays.
func startHandoffClient(t *testing.T) *handoffClient {
	t.Helper()
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	k := newHandoffClient(exe, slog.New(slog.DiscardHandler), func(context.Context, int) {})
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

// runHandoffClient has it keep a keeper running until the test ends.
func runHandoffClient(t *testing.T, k *handoffClient) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); k.run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

// nextKeeper waits for a keeper with another pid.
func nextKeeper(t *testing.T, k *handoffClient, before int) {
	t.Helper()
	for pid := k.pid(); pid == 0 || pid == before; pid = k.pid() {
		if !wait.Sleep(t.Context(), 5*time.Millisecond) {
			t.Fatal("no other keeper has started")
		}
	}
}

func TestHandoffClient_NewKeeperGetsWhatWasHeldMeanwhile(t *testing.T) {
	k := startHandoffClient(t)
	runHandoffClient(t, k)
	before, dropped, during := bindEphemeralPort(t), bindEphemeralPort(t), bindEphemeralPort(t)
	k.hold("service before", before.Files)
	gone := k.hold("service dropped", dropped.Files)
	pid := k.pid()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	k.drop(gone)
	k.hold("service during", during.Files) // the link may still be that of the dead keeper
	nextKeeper(t, k, pid)
	k.reconcile() // returns when the new keeper has everything
	if !isOpen(before) || !isOpen(during) {
		t.Error("the new keeper has not got every port")
	}
	if isOpen(dropped) {
		t.Error("the new keeper has a port that was dropped")
	}
}

func TestHandoffClient_MissingFilesAreSentLater(t *testing.T) {
	k := startHandoffClient(t)
	runHandoffClient(t, k)
	listeners := bindEphemeralPort(t)
	var tries atomic.Int32
	sentCh := make(chan struct{})
	k.hold("service web", func() ([]*os.File, error) {
		switch tries.Add(1) {
		case 1:
			return nil, syscall.EMFILE
		case 2:
			close(sentCh)
		}
		return listeners.Files()
	})
	<-sentCh
	k.reconcile() // waits for the running request
	if !isOpen(listeners) {
		t.Error("the keeper has no copy")
	}
}

// At a logout, the keeper may have ended before its supervisor handles its own signal.
func TestHandoffClient_DeathOfAnEarlierKeeperCountsFromATime(t *testing.T) {
	diedAt := time.Now()
	k := &handoffClient{keeperDiedAt: diedAt}
	if !k.waitKeeperDeath(t.Context(), diedAt.Add(-time.Second)) {
		t.Error("a death after that time does not count")
	}
	if k.waitKeeperDeath(t.Context(), diedAt.Add(time.Second)) {
		t.Error("a death before that time counts")
	}
}

// A keeper may take 2 s to answer. Reading its pid and waiting for its end must not wait for that.
func TestHandoffClient_FrozenKeeperBlocksNoReader(t *testing.T) {
	k := startHandoffClient(t)
	runHandoffClient(t, k)
	pid, listeners := k.pid(), bindEphemeralPort(t)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	answeredCh := make(chan struct{})
	go func() {
		defer close(answeredCh)
		k.hold("service web", listeners.Files)
	}()
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if k.waitKeeperDeath(ctx, time.Now()) || k.pid() != pid {
			t.Error("the keeper counts as dead")
		}
	}
	select {
	case <-answeredCh:
		t.Error("the frozen keeper has answered")
	default:
	}
	nextKeeper(t, k, pid)
	<-answeredCh
}
