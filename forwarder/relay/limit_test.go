package relay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// startLimitedRelay starts a relay with a tunnel that serves this many clients at once.
func startLimitedRelay(t *testing.T, limit int, timeout time.Duration) (r *relayFixture, tn *scriptedTunnel, limitChangeCh chan struct{}) {
	t.Helper()
	limitChangeCh = make(chan struct{}, 64)
	r = startRelayWithOptions(t, Options{
		ConnectTimeout: timeout, MaxConnections: limit, OnShortageChange: func() { limitChangeCh <- struct{}{} },
		FindMainProcess: func(clients []netip.AddrPort) string {
			if len(clients) != limit {
				t.Errorf("%d clients are served", len(clients))
			}
			return fmt.Sprintf("pool (pid 7) has %d of the connections", limit)
		},
	}, fastTiming)
	tn = openTunnel(t, "tcp")
	r.Attach(tn)
	return r, tn, limitChangeCh
}

// dialQueuedClient connects a client and waits until it is the n-th that waits.
func (f *relayFixture) dialQueuedClient(n int) *testConn {
	f.t.Helper()
	client := f.dialClient()
	eventually(f.t, "the client is queued", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.waitQueue) == n
	})
	return client
}

func TestRelay_MaxConnectionsHoldsFurtherClientsInOrder(t *testing.T) {
	r, tn, limitChangeCh := startLimitedRelay(t, 1, testTimeout)
	leave := r.occupySlot(tn)
	if s := r.Stats(); s.Shortage != nil {
		t.Errorf("nobody waits: %+v", s)
	}
	second := r.dialQueuedClient(1)
	third := r.dialQueuedClient(2)
	receive(t, limitChangeCh)
	const process = "pool (pid 7) has 1 of the connections"
	var reached *LimitError
	if s := r.Stats(); !errors.As(s.Shortage, &reached) || *reached != (LimitError{1, process}) || s.Open != 1 || s.Waiting != 2 || s.Unserved != 2 {
		t.Errorf("got %+v", s)
	}
	if want := "max_connections = 1 is reached; " + process; reached.Error() != want {
		t.Errorf("got %q", reached)
	}
	leave()
	server := tn.nextConn(t)
	pingPong(second, server)
	if tn.dials.Load() != 2 {
		t.Errorf("%d dials while one client may be served", tn.dials.Load())
	}
	second.Close()
	server.Close()
	pingPong(third, tn.nextConn(t))
	receive(t, limitChangeCh)
	if s := r.Stats(); s.Shortage != nil || s.Unserved != 0 || s.ShortageResets != 0 {
		t.Errorf("got %+v", s)
	}
}

func TestRelay_ConnectTimeoutResetsClientsBeyondMaxConnections(t *testing.T) {
	r, tn, limitChangeCh := startLimitedRelay(t, 1, 2*time.Second)
	leave := r.occupySlot(tn)
	r.dialClient().expectReset()
	receive(t, limitChangeCh)
	eventually(t, "the client is counted", func() bool { s := r.Stats(); return s.ShortageResets == 1 && s.Waiting == 0 })
	leave()
	receive(t, r.lastClientCh)
	pingPong(r.dialClient(), tn.nextConn(t))
}

func TestRelay_SetMaxConnectionsKeepsConnections(t *testing.T) {
	r, tn, limitChangeCh := startLimitedRelay(t, 2, testTimeout)
	first := r.dialClient()
	firstServer := tn.nextConn(t)
	pingPong(first, firstServer)
	leave := r.occupySlot(tn)
	third := r.dialQueuedClient(1)
	receive(t, limitChangeCh)

	r.SetMaxConnections(1)
	pingPong(first, firstServer)
	leave()
	eventually(t, "one connection is left", func() bool { return r.Stats().Open == 1 })
	if s := r.Stats(); s.Waiting != 1 {
		t.Errorf("a client is served beyond the limit: %+v", s)
	}
	r.SetMaxConnections(2)
	pingPong(third, tn.nextConn(t))
	fourth := r.dialQueuedClient(1)
	r.SetMaxConnections(0)
	pingPong(fourth, tn.nextConn(t))
	pingPong(r.dialClient(), tn.nextConn(t))
	pingPong(first, firstServer)
}

func TestRelay_SetMaxConnectionsEndsReportOfFormerLimit(t *testing.T) {
	timing := fastTiming
	timing.limitHoldTime = time.Hour
	limitChangeCh := make(chan struct{}, 64)
	r := startRelayWithOptions(t, Options{
		ConnectTimeout: testTimeout, MaxConnections: 1, OnShortageChange: func() { limitChangeCh <- struct{}{} },
	}, timing)
	tn := openTunnel(t, "tcp")
	r.Attach(tn)
	for n := range 3 {
		r.dialClient()
		eventually(t, "the client is served or waits", func() bool { s := r.Stats(); return s.Open+s.Waiting == n+1 && s.Waiting == n })
	}
	receive(t, limitChangeCh)
	checkReported := func(want string) {
		t.Helper()
		if s := r.Stats(); fmt.Sprint(s.Shortage) != want {
			t.Errorf("got %v, want %s", s.Shortage, want)
		}
	}
	checkReported("max_connections = 1 is reached")
	r.SetMaxConnections(2)
	checkReported("max_connections = 2 is reached") // the third client waits on
	receive(t, limitChangeCh)
	r.SetMaxConnections(3)
	checkReported("<nil>")
	receive(t, limitChangeCh)
	checkReported("<nil>")
	eventually(t, "all are served", func() bool { return r.Stats().Open == 3 })

	r.dialQueuedClient(1)
	receive(t, limitChangeCh)
	checkReported("max_connections = 3 is reached")
	r.SetMaxConnections(0)
	checkReported("<nil>")
	receive(t, limitChangeCh)
}

func TestRelay_LimitThatIsLiftedWhileProcessIsSearchedIsNotReported(t *testing.T) {
	var log bytes.Buffer // read when the relay is closed
	searchCh, foundCh := make(chan struct{}), make(chan struct{})
	r := startRelayWithOptions(t, Options{
		ConnectTimeout: testTimeout, MaxConnections: 1, Log: slog.New(slog.NewTextHandler(&log, nil)),
		FindMainProcess: func([]netip.AddrPort) string { searchCh <- struct{}{}; <-foundCh; return "" },
	}, fastTiming)
	tn := openTunnel(t, "tcp")
	r.Attach(tn)
	defer r.occupySlot(tn)()
	second := r.dialQueuedClient(1)
	receive(t, searchCh)
	r.SetMaxConnections(0)
	pingPong(second, tn.nextConn(t))
	foundCh <- struct{}{}
	eventually(t, "the watcher has ended", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return !r.limit.isWatched
	})
	if err := r.Close(); err != nil || log.Len() != 0 {
		t.Errorf("%v; the log:\n%s", err, &log)
	}
}

// A client that is blocked between the end of a report and the end of its watcher is reported by that watcher.
func TestRelay_ReportsClientThatIsBlockedWhileReportEnds(t *testing.T) {
	changeCh, continueCh := make(chan struct{}), make(chan struct{})
	r := startRelayWithOptions(t, Options{
		ConnectTimeout: testTimeout, MaxConnections: 1, OnShortageChange: func() { changeCh <- struct{}{}; <-continueCh },
	}, fastTiming)
	tn := openTunnel(t, "tcp")
	r.Attach(tn)
	leave := r.occupySlot(tn)
	second := r.dialQueuedClient(1)
	receive(t, changeCh)
	leave()
	pingPong(second, tn.nextConn(t))
	second.reset()
	eventually(t, "no client is left", func() bool { s := r.Stats(); return s.Open == 0 && s.Waiting == 0 })
	continueCh <- struct{}{}
	receive(t, changeCh) // the report has ended; its watcher has not
	defer r.occupySlot(tn)()
	r.dialQueuedClient(1)
	continueCh <- struct{}{}
	receive(t, changeCh)
	if s := r.Stats(); s.Shortage == nil || s.Unserved != 1 {
		t.Errorf("got %+v", s)
	}
	close(continueCh)
}

// Clients are blocked and leave thousands of times, so also at every moment of a report's end.
func TestRelay_ReportsClientWheneverItIsBlocked(t *testing.T) {
	timing := fastTiming
	timing.limitHoldTime = time.Microsecond
	r := startRelayWithOptions(t, Options{ConnectTimeout: testTimeout, MaxConnections: 1}, timing)
	tn := openTunnel(t, "tcp")
	r.Attach(tn)
	defer r.occupySlot(tn)()
	blocked := []*client{{}}
	setQueue := func(queue []*client) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.waitQueue = queue
		r.startReport(time.Now())
	}
	defer setQueue(nil)
	for i := range 20_000 {
		setQueue(blocked)
		for range i % 8 { // the watcher runs meanwhile
			runtime.Gosched()
			if r.Stats().Shortage == nil {
				t.Fatalf("the client that waits is not reported, in round %d", i)
			}
		}
		setQueue(nil)
		for range i % 5 {
			runtime.Gosched()
			r.Stats()
		}
	}
}

func TestRelay_MaxConnectionsCountsClientWhoseTunnelIsReplaced(t *testing.T) {
	r, tn, _ := startLimitedRelay(t, 1, testTimeout)
	first := r.dialClient()
	lost := tn.nextConn(t)
	eventually(t, "it is connected", func() bool { return r.Stats().Open == 1 })
	second := r.dialQueuedClient(1)
	next := openTunnel(t, "tcp")
	tn.end(nil)
	lost.Close() // nothing was sent: the first client is connected again
	eventually(t, "both wait", func() bool { return r.Stats().Waiting == 2 })
	r.Attach(next)
	server := next.nextConn(t)
	pingPong(first, server)
	first.Close()
	server.Close()
	pingPong(second, next.nextConn(t))
}

func TestRelay_MaxConnectionsServesNextWhenClientsDisconnect(t *testing.T) {
	r, tn, _ := startLimitedRelay(t, 1, testTimeout)
	first := r.dialClient()
	pingPong(first, tn.nextConn(t))
	second := r.dialQueuedClient(1)
	third := r.dialQueuedClient(2)
	second.reset()
	eventually(t, "the second client has left", func() bool { return r.Stats().Waiting == 1 })
	first.reset()
	pingPong(third, tn.nextConn(t))
}

func TestRelay_MaxConnectionsLimitsPool(t *testing.T) {
	const limit, clients = 7, 200
	r := startRelayWithOptions(t, Options{ConnectTimeout: testTimeout, MaxConnections: limit}, fastTiming)
	tn := openTunnel(t, "tcp")
	var open, most atomic.Int32
	tn.serveConn = func(conn net.Conn) {
		defer conn.Close()
		for n := open.Add(1); ; {
			if old := most.Load(); n <= old || most.CompareAndSwap(old, n) {
				break
			}
		}
		buf := make([]byte, 1)
		if _, err := conn.Read(buf); err == nil {
			open.Add(-1) // before the answer: the client closes then
			_, _ = conn.Write(buf)
		}
	}
	r.Attach(tn)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			conn, err := dialTCP(r.addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			if _, err = conn.Write([]byte("x")); err == nil {
				_, err = io.ReadFull(conn, make([]byte, 1))
			}
			if err != nil {
				t.Error(err)
			}
		})
		if r.Stats().Total == clients/2 {
			r.SetMaxConnections(limit) // the same: nothing changes
		}
	}
	wg.Wait()
	if most.Load() > limit {
		t.Errorf("%d connections at once, the limit is %d", most.Load(), limit)
	}
	eventually(t, "all have left", func() bool { s := r.Stats(); return s.Open == 0 && s.Waiting == 0 })
	if s := r.Stats(); s.Total != clients || s.ShortageResets != 0 {
		t.Errorf("got %+v", s)
	}
}
