package mux

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/sshd"

	"github.com/localport-sh/localport/testdata/tcpserver"
)

// stressClients are clients of one Conn that behave in random ways, well and badly.
type stressClients struct {
	t                  *testing.T
	conn               *Conn
	echoPort, sinkPort int
	sourcePort         int
	closeSinks         func()       // makes the sink servers close their connections
	echoedBytes        atomic.Int64 // bytes that came back unchanged
}

func (clients *stressClients) openStream(ctx context.Context, port int) *Stream {
	s, err := clients.conn.Open(ctx, "127.0.0.1", port)
	if err != nil {
		if ctx.Err() == nil && !isConnClosed(err) {
			clients.t.Errorf("open: %v", err)
		}
		return nil
	}
	return s
}

// echoAll sends random bytes and an EOF and expects the same bytes back.
func (clients *stressClients) echoAll(r *rand.Rand) {
	s := clients.openStream(clients.t.Context(), clients.echoPort)
	if s == nil {
		return
	}
	defer s.Close()
	sent := make([]byte, r.IntN(1<<20))
	for i := range sent {
		sent[i] = byte(r.Uint32())
	}
	var sending sync.WaitGroup
	sending.Go(func() {
		for rest := sent; len(rest) > 0; {
			n := min(len(rest), 1+r.IntN(100_000))
			if _, err := s.Write(rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
		_ = s.CloseWrite()
	})
	got := sha256.New()
	n, err := io.Copy(got, s)
	sending.Wait()
	if s.IsBroken() {
		return // its master has ended
	}
	want := sha256.Sum256(sent)
	if err != nil || n != int64(len(sent)) || !bytes.Equal(got.Sum(nil), want[:]) {
		clients.t.Errorf("of %d bytes %d came back, %v", len(sent), n, err)
	}
	clients.echoedBytes.Add(n)
}

// closeWhileReading closes or breaks a stream that still receives.
func (clients *stressClients) closeWhileReading(r *rand.Rand) {
	s := clients.openStream(clients.t.Context(), clients.sourcePort)
	if s == nil {
		return
	}
	for range r.IntN(20) {
		if _, err := s.Next(); err != nil {
			break
		}
	}
	if r.IntN(2) == 0 {
		s.Break()
	}
	_ = s.Close()
	_ = s.Close()
}

// writeUntilClosed writes to a server that reads nothing, until a timer closes the stream.
func (clients *stressClients) writeUntilClosed(r *rand.Rand) {
	s := clients.openStream(clients.t.Context(), clients.sinkPort)
	if s == nil {
		return
	}
	timer := time.AfterFunc(time.Duration(r.IntN(200))*time.Millisecond, func() { _ = s.Close() })
	defer timer.Stop()
	block := make([]byte, 64<<10)
	for {
		if _, err := s.Write(block); err != nil {
			_ = s.Close()
			return
		}
	}
}

// cancelOpen opens with a context that ends soon.
func (clients *stressClients) cancelOpen(r *rand.Rand) {
	ctx, cancel := context.WithTimeout(clients.t.Context(), time.Duration(r.IntN(3000))*time.Microsecond)
	defer cancel()
	if s := clients.openStream(ctx, clients.echoPort); s != nil {
		_ = s.Close()
	}
}

// readWithDeadline expects a read to time out and a later one to succeed.
func (clients *stressClients) readWithDeadline(r *rand.Rand) {
	s := clients.openStream(clients.t.Context(), clients.echoPort)
	if s == nil {
		return
	}
	defer s.Close()
	_ = s.SetReadDeadline(time.Now().Add(time.Duration(r.IntN(5)) * time.Millisecond))
	if _, err := s.Next(); err == nil {
		clients.t.Error("read bytes that were not sent")
	}
	_ = s.SetReadDeadline(time.Time{})
	_, _ = s.Write([]byte("x"))
	if b, err := s.Next(); string(b) != "x" && !s.IsBroken() {
		clients.t.Errorf("read %d bytes, %v", len(b), err)
	}
}

func (clients *stressClients) openRefused(*rand.Rand) {
	_, err := clients.conn.Open(clients.t.Context(), "127.0.0.1", 1)
	if _, isRefused := errors.AsType[*OpenChannelError](err); !isRefused && !isConnClosed(err) {
		clients.t.Errorf("port 1: %v", err)
	}
}

// run runs clients concurrently, each of which performs random actions one after another.
func (clients *stressClients) run(clientCount, actionsEach int) {
	var all sync.WaitGroup
	for i := range clientCount {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 7)) //nolint:gosec // a fixed seed; only the scheduling differs between runs
			for range actionsEach {
				actions := []func(*rand.Rand){clients.echoAll, clients.echoAll, clients.closeWhileReading, clients.writeUntilClosed, clients.cancelOpen, clients.readWithDeadline, clients.openRefused}
				actions[r.IntN(len(actions))](r)
			}
		})
	}
	all.Wait()
}

func newStressClients(t *testing.T, c *Conn) *stressClients {
	t.Helper()
	closeSinksCh := make(chan struct{})
	clients := &stressClients{t: t, conn: c, echoPort: startServer(t, tcpserver.Echo), closeSinks: sync.OnceFunc(func() { close(closeSinksCh) })}
	clients.sinkPort = startServer(t, func(conn *net.TCPConn) {
		_ = conn.SetReadBuffer(4 << 10)
		<-closeSinksCh
	})
	clients.sourcePort = startServer(t, func(conn *net.TCPConn) {
		block := make([]byte, 64<<10)
		for {
			if _, err := conn.Write(block); err != nil {
				return
			}
		}
	})
	t.Cleanup(clients.closeSinks)
	return clients
}

func TestConn_StressClientsDoNotAffectEachOther(t *testing.T) {
	c := openConn(t, sshd.Start(t))
	clients := newStressClients(t, c)
	clients.run(24, 12)
	if clients.echoedBytes.Load() == 0 {
		t.Error("no bytes were echoed")
	}
	clients.closeSinks() // the server keeps a channel open while it has unread bytes
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for c.StreamCount() > 0 {
		if err := c.Ping(ctx); err != nil {
			t.Fatalf("%v; %d streams are left", err, c.StreamCount())
		}
	}
}

func TestConn_EndOfMasterUnblocksEveryCaller(t *testing.T) {
	server := sshd.Start(t)
	for _, end := range []func(c *Conn, kill func()){
		func(_ *Conn, kill func()) { kill() },
		func(c *Conn, _ func()) { _ = c.Close() },
	} {
		control, ssh := startMaster(t, server)
		c, err := control.OpenProxy(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		clients := newStressClients(t, c)
		done := make(chan struct{})
		go func() {
			defer close(done)
			ended := &stressClients{t: t, conn: c, echoPort: clients.echoPort, sinkPort: clients.sinkPort, sourcePort: clients.sourcePort}
			ended.run(16, 20)
		}()
		for clients.conn.StreamCount() < 8 {
			_ = c.Ping(t.Context())
		}
		end(c, ssh.Kill)
		<-done
		_ = c.Close()
		_ = ssh.Close()
	}
}

func isConnClosed(err error) bool { return errors.Is(err, ErrMasterEnded) || errors.Is(err, ErrClosed) }
