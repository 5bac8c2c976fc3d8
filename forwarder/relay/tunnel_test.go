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

// role makes the test binary play a program that the tests start.
const role = "LOCALPORT_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(role) == "crowded" {
		playCrowded()
		return
	}
	goleak.VerifyTestMain(m)
}

// patience bounds everything that a test waits for.
const patience = 20 * time.Second

// brisk is a pace for tests: short, and long enough that a busy machine does not take silence for an answer.
var brisk = pace{settle: 250 * time.Millisecond, first: 5 * time.Millisecond, last: 40 * time.Millisecond}

// tunnel is a scripted one: it dials a real listener, and the test plays the server of each connection and says what
// the tunnel reports.
type tunnel struct {
	network  string
	listener net.Listener
	arrived  chan *served
	refusals chan forwarder.Refusal
	done     chan struct{}
	exit     sync.Once
	err      error

	acknowledges bool
	silent       bool // no Refusals
	onDial       func(context.Context) error
	serve        func(net.Conn) // in the place of arrived
	dialling     atomic.Int32
	dials        atomic.Int32
}

// served is one connection: the relay's end and the server's.
type served struct {
	*duplex
	near net.Conn
}

// duplex is a connection whose every step is bounded.
type duplex struct {
	socket
	t testing.TB
}

func openTunnel(t testing.TB, network string) *tunnel {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	tn := &tunnel{
		network: network, listener: l, arrived: make(chan *served, 4096),
		refusals: make(chan forwarder.Refusal, 64), done: make(chan struct{}),
	}
	t.Cleanup(func() {
		tn.end(nil)
		l.Close()
		for len(tn.arrived) > 0 {
			(<-tn.arrived).Close()
		}
	})
	return tn
}

var pairing sync.Mutex // so that what Dial makes is what it accepts

func (tn *tunnel) Dial(ctx context.Context) (net.Conn, error) {
	tn.dials.Add(1)
	tn.dialling.Add(1)
	defer tn.dialling.Add(-1)
	select {
	case <-tn.done:
		return nil, net.ErrClosed
	default:
	}
	if tn.onDial != nil {
		if err := tn.onDial(ctx); err != nil {
			return nil, err
		}
	}
	pairing.Lock()
	defer pairing.Unlock()
	var dialer net.Dialer
	near, err := dialer.DialContext(ctx, tn.network, tn.listener.Addr().String())
	if err != nil {
		return nil, err
	}
	far, err := tn.listener.Accept()
	if err != nil {
		near.Close()
		return nil, err
	}
	if tn.serve != nil {
		go tn.serve(far)
		return near, nil
	}
	tn.arrived <- &served{&duplex{far.(socket), nil}, near}
	return near, nil
}

func (tn *tunnel) Refusals() <-chan forwarder.Refusal {
	if tn.silent {
		return nil
	}
	return tn.refusals
}
func (tn *tunnel) Acknowledges() bool    { return tn.acknowledges }
func (tn *tunnel) Done() <-chan struct{} { return tn.done }
func (tn *tunnel) Err() error            { return tn.err }
func (tn *tunnel) Close() error          { tn.end(nil); return nil }

func (tn *tunnel) end(err error) {
	tn.exit.Do(func() {
		tn.err = err
		close(tn.done)
	})
}

// next is the server's end of the next connection.
func (tn *tunnel) next(t testing.TB) *served {
	t.Helper()
	select {
	case s := <-tn.arrived:
		s.t = t
		t.Cleanup(func() { s.Close() })
		bound(t, s)
		return s
	case <-time.After(patience):
		t.Fatal("no connection came through the tunnel")
		return nil
	}
}

func bound(t testing.TB, c net.Conn) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
}

// fixture is a relay and where it listens.
type fixture struct {
	*Relay
	t    testing.TB
	addr string

	waits, proofs, quiets chan struct{}
	refused               chan forwarder.Refusal
}

func run(t testing.TB, timeout time.Duration, p pace) *fixture {
	t.Helper()
	return runWith(t, Options{ConnectTimeout: timeout}, p)
}

func runWith(t testing.TB, o Options, p pace) *fixture {
	t.Helper()
	ls, err := Bind([]netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{
		t: t, addr: ls.Addrs()[0].String(),
		waits: make(chan struct{}, 4096), proofs: make(chan struct{}, 4096), quiets: make(chan struct{}, 4096),
		refused: make(chan forwarder.Refusal, 4096),
	}
	o.OnWaiting = func() { f.waits <- struct{}{} }
	o.OnProof = func(forwarder.Tunnel) { f.proofs <- struct{}{} }
	o.OnQuiet = func() { f.quiets <- struct{}{} }
	o.OnRefusal = func(_ forwarder.Tunnel, r forwarder.Refusal) { f.refused <- r }
	f.Relay = start(ls, o, p)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func begin(t testing.TB) *fixture {
	t.Helper()
	return run(t, patience, brisk)
}

// dial is a client.
func (f *fixture) dial() *duplex {
	f.t.Helper()
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		f.t.Fatalf("refused: %v", err)
	}
	f.t.Cleanup(func() { conn.Close() })
	bound(f.t, conn)
	return &duplex{conn.(socket), f.t}
}

// waiting is a client that the relay knows to wait.
func (f *fixture) waiting() *duplex {
	f.t.Helper()
	c := f.dial()
	signal(f.t, f.waits)
	return c
}

func signal[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatal("it did not happen in time")
		panic("unreachable")
	}
}

// eventually waits for what nothing announces.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for !condition() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("never: %s", what)
		}
	}
}

func (d *duplex) send(text string) {
	d.t.Helper()
	if _, err := io.WriteString(d.socket, text); err != nil {
		d.t.Fatal(err)
	}
}

func (d *duplex) finish() {
	d.t.Helper()
	if err := d.CloseWrite(); err != nil {
		d.t.Fatal(err)
	}
}

// reset closes by a reset.
func (d *duplex) reset() { reset(d.socket) }

func (d *duplex) expect(text string) {
	d.t.Helper()
	got := make([]byte, len(text))
	n, err := io.ReadFull(d.socket, got)
	if err != nil || string(got) != text {
		d.t.Fatalf("got %.40q (%d bytes), %v; want %.40q (%d bytes)", got[:n], n, err, text, len(text))
	}
}

func (d *duplex) expectEnd() {
	d.t.Helper()
	if n, err := d.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		d.t.Fatalf("got %d bytes, %v; want the end", n, err)
	}
}

func (d *duplex) expectReset() {
	d.t.Helper()
	if n, err := d.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		d.t.Fatalf("got %d bytes, %v; want a reset", n, err)
	}
}

// echo sends text both ways.
func echo(client *duplex, server *served) {
	client.t.Helper()
	client.send("ping")
	server.expect("ping")
	server.send("pong")
	client.expect("pong")
}

func refusedConnect(conn net.Conn) forwarder.Refusal {
	return forwarder.Refusal{Reason: "connection refused", Connect: true, Conn: conn}
}

func dialTCP(addr string) (*net.TCPConn, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn.(*net.TCPConn), nil
}
