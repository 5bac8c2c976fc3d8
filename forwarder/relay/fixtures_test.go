package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/forwarder"
)

// testRoleVariable makes the test binary run as a program that the tests start.
const testRoleVariable = "LOCALPORT_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(testRoleVariable) {
	case "few files":
		runFewFilesRelay()
		return
	case "relay":
		runRelay()
		return
	}
	goleak.VerifyTestMain(m)
}

// testTimeout limits everything that a test waits for.
const testTimeout = 20 * time.Second

// fastTiming is short, and long enough for a report to arrive within reportWindow on a busy machine.
var fastTiming = timing{
	reportWindow: time.Second, minTrialDelay: 5 * time.Millisecond, maxTrialDelay: 40 * time.Millisecond,
	shortageHoldTime: 40 * time.Millisecond, limitHoldTime: 40 * time.Millisecond,
}

// scriptedTunnel dials a real listener. The test is the server of each connection and sends the tunnel's reports.
type scriptedTunnel struct {
	network   string
	listener  net.Listener
	connCh    chan *serverConn
	refusalCh chan forwarder.Refusal
	doneCh    chan struct{}
	endOnce   sync.Once
	err       error

	acknowledges  bool
	hasNoRefusals bool // Refusals returns nil
	onDial        func(context.Context) error
	serveConn     func(net.Conn) // called instead of sending to connCh
	dialing       atomic.Int32
	dials         atomic.Int32
}

// serverConn is the server's end of an upstream connection. relayConn is the relay's end.
type serverConn struct {
	*testConn
	relayConn net.Conn
}

// testConn is a connection with a deadline, whose methods fail the test.
type testConn struct {
	socket
	t testing.TB
}

func openTunnel(t testing.TB, network string) *scriptedTunnel {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	tn := &scriptedTunnel{
		network: network, listener: l, connCh: make(chan *serverConn, 4096),
		refusalCh: make(chan forwarder.Refusal, 64), doneCh: make(chan struct{}),
	}
	t.Cleanup(func() {
		tn.end(nil)
		l.Close()
		for len(tn.connCh) > 0 {
			(<-tn.connCh).Close()
		}
	})
	return tn
}

var pairMu sync.Mutex // makes Dial accept the connection that it has made

func (tn *scriptedTunnel) Dial(ctx context.Context) (net.Conn, error) {
	tn.dials.Add(1)
	tn.dialing.Add(1)
	defer tn.dialing.Add(-1)
	select {
	case <-tn.doneCh:
		return nil, net.ErrClosed
	default:
	}
	if tn.onDial != nil {
		if err := tn.onDial(ctx); err != nil {
			return nil, err
		}
	}
	pairMu.Lock()
	defer pairMu.Unlock()
	var dialer net.Dialer
	relayConn, err := dialer.DialContext(ctx, tn.network, tn.listener.Addr().String())
	if err != nil {
		return nil, err
	}
	serverEnd, err := tn.listener.Accept()
	if err != nil {
		relayConn.Close()
		return nil, err
	}
	if tn.serveConn != nil {
		go tn.serveConn(serverEnd)
		return relayConn, nil
	}
	tn.connCh <- &serverConn{&testConn{serverEnd.(socket), nil}, relayConn}
	return relayConn, nil
}

func (tn *scriptedTunnel) Refusals() <-chan forwarder.Refusal {
	if tn.hasNoRefusals {
		return nil
	}
	return tn.refusalCh
}
func (tn *scriptedTunnel) Acknowledges() bool    { return tn.acknowledges }
func (tn *scriptedTunnel) Done() <-chan struct{} { return tn.doneCh }
func (tn *scriptedTunnel) Err() error            { return tn.err }
func (tn *scriptedTunnel) Close() error          { tn.end(nil); return nil }

func (tn *scriptedTunnel) end(err error) {
	tn.endOnce.Do(func() {
		tn.err = err
		close(tn.doneCh)
	})
}

// nextConn returns the server's end of the next connection.
func (tn *scriptedTunnel) nextConn(t testing.TB) *serverConn {
	t.Helper()
	select {
	case s := <-tn.connCh:
		s.t = t
		t.Cleanup(func() { s.Close() })
		setTestDeadline(t, s)
		return s
	case <-time.After(testTimeout):
		t.Fatal("the tunnel was not dialed")
		return nil
	}
}

func setTestDeadline(t testing.TB, c net.Conn) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(testTimeout)); err != nil {
		t.Fatal(err)
	}
}

// relayFixture is a relay whose callbacks send to channels.
type relayFixture struct {
	*Relay
	t    testing.TB
	addr string

	waitingCh, reachedCh, lastClientCh chan struct{}
	refusalCh                          chan forwarder.Refusal
}

func startRelayWithTiming(t testing.TB, timeout time.Duration, tm timing) *relayFixture {
	t.Helper()
	return startRelayWithOptions(t, Options{ConnectTimeout: timeout}, tm)
}

func startRelayWithOptions(t testing.TB, o Options, tm timing) *relayFixture {
	t.Helper()
	ls, err := BindListeners([]netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	f := &relayFixture{
		t: t, addr: ls.Addrs()[0].String(),
		waitingCh: make(chan struct{}, 4096), reachedCh: make(chan struct{}, 4096), lastClientCh: make(chan struct{}, 4096),
		refusalCh: make(chan forwarder.Refusal, 4096),
	}
	o.OnWaiting = func() { f.waitingCh <- struct{}{} }
	o.OnServerReached = func(forwarder.Tunnel) { f.reachedCh <- struct{}{} }
	o.OnLastClient = func() { f.lastClientCh <- struct{}{} }
	o.OnRefusal = func(_ forwarder.Tunnel, r forwarder.Refusal) { f.refusalCh <- r }
	f.Relay = newRelay(ls, o, tm)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func startRelay(t testing.TB) *relayFixture {
	t.Helper()
	return startRelayWithTiming(t, testTimeout, fastTiming)
}

// dialClient connects a client.
func (f *relayFixture) dialClient() *testConn {
	f.t.Helper()
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		f.t.Fatalf("refused: %v", err)
	}
	f.t.Cleanup(func() { conn.Close() })
	setTestDeadline(f.t, conn)
	return &testConn{conn.(socket), f.t}
}

// dialWaitingClient connects a client and waits until it is queued.
func (f *relayFixture) dialWaitingClient() *testConn {
	f.t.Helper()
	c := f.dialClient()
	receive(f.t, f.waitingCh)
	return c
}

func receive[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(testTimeout):
		t.Fatal("nothing was received in time")
		panic("unreachable")
	}
}

// eventually waits for a condition of which no channel tells.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	end := time.After(testTimeout)
	for !condition() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("never: %s", what)
		}
	}
}

func (c *testConn) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.socket, text); err != nil {
		c.t.Fatal(err)
	}
}

func (c *testConn) closeWrite() {
	c.t.Helper()
	if err := c.CloseWrite(); err != nil {
		c.t.Fatal(err)
	}
}

func (c *testConn) reset() { resetConn(c.socket) }

func (c *testConn) expectText(text string) {
	c.t.Helper()
	got := make([]byte, len(text))
	n, err := io.ReadFull(c.socket, got)
	if err != nil || string(got) != text {
		c.t.Fatalf("got %.40q (%d bytes), %v; want %.40q (%d bytes)", got[:n], n, err, text, len(text))
	}
}

func (c *testConn) expectEOF() {
	c.t.Helper()
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		c.t.Fatalf("got %d bytes, %v; want the end", n, err)
	}
}

func (c *testConn) expectReset() {
	c.t.Helper()
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		c.t.Fatalf("got %d bytes, %v; want a reset", n, err)
	}
}

// pingPong sends bytes both ways.
func pingPong(client *testConn, server *serverConn) {
	client.t.Helper()
	client.send("ping")
	server.expectText("ping")
	server.send("pong")
	client.expectText("pong")
}

func connectRefusal(conn net.Conn) forwarder.Refusal {
	return forwarder.Refusal{Reason: "connection refused", IsConnectFailure: true, Conn: conn}
}

func dialTCP(addr string) (*net.TCPConn, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(testTimeout))
	return conn.(*net.TCPConn), nil
}
