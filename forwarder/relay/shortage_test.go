package relay

import (
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// crowdedRelay is a relay with a tunnel and one seat, which its only client has until leave is called.
func crowdedRelay(t *testing.T, timeout time.Duration) (r *fixture, tn *tunnel, leave func(), changes chan struct{}) {
	t.Helper()
	changes = make(chan struct{}, 64)
	r = runWith(t, Options{
		ConnectTimeout: timeout, Seats: NewSeats(filesPerSeat, 0), OnRoomChange: func() { changes <- struct{}{} },
	}, brisk)
	tn = openTunnel(t, "tcp")
	r.Attach(tn)
	return r, tn, r.occupy(tn), changes
}

// occupy takes a seat until leave is called.
func (f *fixture) occupy(tn *tunnel) (leave func()) {
	f.t.Helper()
	client := f.dial()
	server := tn.next(f.t)
	echo(client, server)
	return func() {
		client.Close()
		server.Close()
	}
}

func TestRelay_SaysThatThereIsNoRoomAndThatThereIsAgain(t *testing.T) {
	r, tn, leave, changes := crowdedRelay(t, patience)
	if s := r.Stats(); s.NoRoom != nil || s.Unseated != 0 {
		t.Errorf("got %+v", s)
	}
	second := r.dial()
	signal(t, changes)
	if s := r.Stats(); !errors.Is(s.NoRoom, ErrNoSeat) || s.Unseated != 1 || s.Total != 1 {
		t.Errorf("got %+v", s)
	}
	third := r.dial()
	if runtime.GOOS == "linux" { // elsewhere the kernel does not tell
		eventually(t, "two wait", func() bool { return r.Stats().Unseated == 2 })
	}
	leave()
	server := tn.next(t)
	echo(second, server)
	second.Close()
	server.Close()
	server = tn.next(t)
	echo(third, server)
	if s := r.Stats(); s.NoRoom == nil {
		t.Error("there is room, without a seat")
	}
	third.Close()
	server.Close()
	signal(t, changes)
	if s := r.Stats(); s.NoRoom != nil || s.Unseated != 0 || s.Resets != 0 || s.Total != 3 {
		t.Errorf("got %+v", s)
	}
}

func TestRelay_ResetsClientsWithoutRoomAfterConnectTimeout(t *testing.T) {
	const timeout, apart, clients = 400 * time.Millisecond, 100 * time.Millisecond, 4
	r, tn, leave, changes := crowdedRelay(t, timeout)
	type wait struct {
		i    int
		took time.Duration
	}
	waits := make(chan wait, clients)
	pace := time.NewTicker(apart)
	defer pace.Stop()
	for i := range clients {
		began := time.Now()
		client := r.dial()
		go func() {
			_, _ = client.Read(make([]byte, 1))
			waits <- wait{i, time.Since(began)}
		}()
		<-pace.C
	}
	signal(t, changes)
	for range clients {
		w := signal(t, waits)
		if w.took > timeout+apart {
			t.Errorf("client %d waited for %v", w.i, w.took)
		}
		if runtime.GOOS == "linux" && w.took < timeout-apart/2 {
			t.Errorf("client %d was reset after %v", w.i, w.took)
		}
	}
	if s := r.Stats(); s.NoRoom == nil || s.Resets != clients {
		t.Errorf("got %+v", s)
	}
	leave()
	signal(t, changes) // without a client that comes and finds a seat
	if s := r.Stats(); s.NoRoom != nil {
		t.Errorf("got %+v", s)
	}
	echo(r.dial(), tn.next(t))
}

func TestRelay_ResetsClientsWithoutRoomWhenItRejects(t *testing.T) {
	r, _, _, changes := crowdedRelay(t, patience)
	client := r.dial()
	signal(t, changes)
	r.Reject()
	client.expectReset()
	r.dial().expectReset()
}

func TestRelay_ClosesWhileClientsHaveNoRoom(t *testing.T) {
	r, _, _, changes := crowdedRelay(t, patience)
	client := r.dial()
	signal(t, changes)
	_ = r.Close()
	client.expectReset()
}

func TestRelay_HasRoomForItsClientsWhileAnotherHasNone(t *testing.T) {
	seats := NewSeats(64*filesPerSeat, 0)
	changes := make(chan struct{}, 64)
	greedy := runWith(t, Options{ConnectTimeout: patience, Seats: seats, OnRoomChange: func() { changes <- struct{}{} }}, brisk)
	modest := runWith(t, Options{ConnectTimeout: patience, Seats: seats}, brisk)
	tn := openTunnel(t, "tcp")
	greedy.Attach(tn)
	modest.Attach(tn)
	var dialing sync.WaitGroup
	defer dialing.Wait() // before the relays are closed, which resets who connects just then
	dialing.Go(func() {
		for range 64 {
			greedy.dial()
		}
	})
	signal(t, changes)
	for range 8 {
		conn, err := dialTCP(modest.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	eventually(t, "all are open", func() bool { return modest.Stats().Open == 8 })
	if s := greedy.Stats(); s.NoRoom == nil {
		t.Errorf("got %+v", s)
	}
	if s := modest.Stats(); s.NoRoom != nil {
		t.Errorf("got %+v", s)
	}
}

func TestRelay_SaysThatItsCallbackPanicked(t *testing.T) {
	broken := make(chan forwarder.Tunnel, 64)
	r := runWith(t, Options{
		ConnectTimeout: patience, Seats: NewSeats(filesPerSeat, 0),
		OnRoomChange: func() { panic("it broke") },
		OnBroken:     func(about forwarder.Tunnel, _ *forwarder.Failure, _ []byte) { broken <- about },
	}, brisk)
	tn := openTunnel(t, "tcp")
	r.Attach(tn)
	leave := r.occupy(tn)
	r.dial()
	if about := signal(t, broken); about != nil {
		t.Errorf("the panic names %v", about)
	}
	leave()
	signal(t, r.quiets)
	echo(r.dial(), tn.next(t))
}
