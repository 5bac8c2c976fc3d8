package relay

import (
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// startFullRelay starts a relay with a tunnel and one slot, which a client has until leave is called.
func startFullRelay(t *testing.T, timeout time.Duration) (r *relayFixture, tn *scriptedTunnel, leave func(), shortageChangeCh chan struct{}) {
	t.Helper()
	shortageChangeCh = make(chan struct{}, 64)
	r = startRelayWithOptions(t, Options{
		ConnectTimeout: timeout, Slots: NewSlotAllocator(filesPerSlot, 0), OnShortageChange: func() { shortageChangeCh <- struct{}{} },
	}, fastTiming)
	tn = openTunnel(t, "tcp")
	r.Attach(tn)
	return r, tn, r.occupySlot(tn), shortageChangeCh
}

// occupySlot connects a client, which has a slot until leave is called.
func (f *relayFixture) occupySlot(tn *scriptedTunnel) (leave func()) {
	f.t.Helper()
	client := f.dialClient()
	server := tn.nextConn(f.t)
	pingPong(client, server)
	return func() {
		client.Close()
		server.Close()
	}
}

func TestRelay_ReportsShortageAndItsEnd(t *testing.T) {
	r, tn, leave, shortageChangeCh := startFullRelay(t, testTimeout)
	if s := r.Stats(); s.Shortage != nil || s.Unserved != 0 {
		t.Errorf("got %+v", s)
	}
	second := r.dialClient()
	receive(t, shortageChangeCh)
	if s := r.Stats(); !errors.Is(s.Shortage, ErrNoSlot) || s.Unserved != 1 || s.Total != 1 {
		t.Errorf("got %+v", s)
	}
	third := r.dialClient()
	if runtime.GOOS == "linux" { // queueLength is 0 elsewhere
		eventually(t, "two clients wait", func() bool { return r.Stats().Unserved == 2 })
	}
	leave()
	server := tn.nextConn(t)
	pingPong(second, server)
	second.Close()
	server.Close()
	server = tn.nextConn(t)
	pingPong(third, server)
	if s := r.Stats(); s.Shortage == nil {
		t.Error("the shortage is over without a free slot")
	}
	third.Close()
	server.Close()
	receive(t, shortageChangeCh)
	if s := r.Stats(); s.Shortage != nil || s.Unserved != 0 || s.ShortageResets != 0 || s.Total != 3 {
		t.Errorf("got %+v", s)
	}
}

func TestRelay_ConnectTimeoutResetsClientsDuringShortage(t *testing.T) {
	const timeout, interval, clients = 400 * time.Millisecond, 100 * time.Millisecond, 4
	r, tn, leave, shortageChangeCh := startFullRelay(t, timeout)
	type wait struct {
		i    int
		took time.Duration
	}
	waits := make(chan wait, clients)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for i := range clients {
		start := time.Now()
		client := r.dialClient()
		go func() {
			_, _ = client.Read(make([]byte, 1))
			waits <- wait{i, time.Since(start)}
		}()
		<-ticker.C
	}
	receive(t, shortageChangeCh)
	for range clients {
		w := receive(t, waits)
		// Clients that waited one after the other would wait a timeout longer each. The bound leaves a busy machine a whole timeout.
		if w.took > 2*timeout {
			t.Errorf("client %d waited for %v", w.i, w.took)
		}
		if runtime.GOOS == "linux" && w.took < timeout-interval/2 {
			t.Errorf("client %d was reset after %v", w.i, w.took)
		}
	}
	if s := r.Stats(); s.Shortage == nil || s.ShortageResets != clients {
		t.Errorf("got %+v", s)
	}
	leave()
	receive(t, shortageChangeCh) // although no new client has found a slot
	if s := r.Stats(); s.Shortage != nil {
		t.Errorf("got %+v", s)
	}
	pingPong(r.dialClient(), tn.nextConn(t))
}

func TestRelay_RejectResetsClientsDuringShortage(t *testing.T) {
	r, _, _, shortageChangeCh := startFullRelay(t, testTimeout)
	client := r.dialClient()
	receive(t, shortageChangeCh)
	r.Reject()
	client.expectReset()
	r.dialClient().expectReset()
}

func TestRelay_CloseResetsClientsDuringShortage(t *testing.T) {
	r, _, _, shortageChangeCh := startFullRelay(t, testTimeout)
	client := r.dialClient()
	receive(t, shortageChangeCh)
	_ = r.Close()
	client.expectReset()
}

func TestRelay_ShortageDoesNotAffectOtherRelays(t *testing.T) {
	slots := NewSlotAllocator(64*filesPerSlot, 0)
	shortageChangeCh := make(chan struct{}, 64)
	fullRelay := startRelayWithOptions(t, Options{ConnectTimeout: testTimeout, Slots: slots, OnShortageChange: func() { shortageChangeCh <- struct{}{} }}, fastTiming)
	otherRelay := startRelayWithOptions(t, Options{ConnectTimeout: testTimeout, Slots: slots}, fastTiming)
	tn := openTunnel(t, "tcp")
	fullRelay.Attach(tn)
	otherRelay.Attach(tn)
	var dialing sync.WaitGroup
	defer dialing.Wait() // Close would reset a client that is connecting
	dialing.Go(func() {
		for range 64 {
			fullRelay.dialClient()
		}
	})
	receive(t, shortageChangeCh)
	for range 8 {
		conn, err := dialTCP(otherRelay.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	eventually(t, "all clients are open", func() bool { return otherRelay.Stats().Open == 8 })
	if s := fullRelay.Stats(); s.Shortage == nil {
		t.Errorf("got %+v", s)
	}
	if s := otherRelay.Stats(); s.Shortage != nil {
		t.Errorf("got %+v", s)
	}
}

func TestRelay_ReportsPanicOfCallback(t *testing.T) {
	panicCh := make(chan forwarder.Tunnel, 64)
	r := startRelayWithOptions(t, Options{
		ConnectTimeout: testTimeout, Slots: NewSlotAllocator(filesPerSlot, 0),
		OnShortageChange: func() { panic("it broke") },
		OnPanic:          func(tunnel forwarder.Tunnel, _ *forwarder.Failure, _ []byte) { panicCh <- tunnel },
	}, fastTiming)
	tn := openTunnel(t, "tcp")
	r.Attach(tn)
	leave := r.occupySlot(tn)
	r.dialClient()
	if tunnel := receive(t, panicCh); tunnel != nil {
		t.Errorf("OnPanic is given %v", tunnel)
	}
	leave()
	receive(t, r.lastClientCh)
	pingPong(r.dialClient(), tn.nextConn(t))
}
