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
)

// crowd are clients that do what clients do, and what they should not.
type crowd struct {
	t          *testing.T
	c          *Conn
	echo, sink int // ports
	source     int
	leave      func()       // has the sinks close their connections
	went       atomic.Int64 // bytes that came back right
}

func (w *crowd) open(ctx context.Context, port int) *Stream {
	s, err := w.c.Open(ctx, "127.0.0.1", port)
	if err != nil {
		if ctx.Err() == nil && !gone(err) {
			w.t.Errorf("open: %v", err)
		}
		return nil
	}
	return s
}

// whole sends something, finishes, and wants the same back.
func (w *crowd) whole(r *rand.Rand) {
	s := w.open(w.t.Context(), w.echo)
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
	if s.Broken() {
		return // with its master
	}
	want := sha256.Sum256(sent)
	if err != nil || n != int64(len(sent)) || !bytes.Equal(got.Sum(nil), want[:]) {
		w.t.Errorf("of %d bytes %d came back, %v", len(sent), n, err)
	}
	w.went.Add(n)
}

// leaver goes in the middle of everything.
func (w *crowd) leaver(r *rand.Rand) {
	s := w.open(w.t.Context(), w.source)
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

// flood sends to who takes nothing, until somebody else closes it.
func (w *crowd) flood(r *rand.Rand) {
	s := w.open(w.t.Context(), w.sink)
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

// hasty gives its opening up.
func (w *crowd) hasty(r *rand.Rand) {
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Duration(r.IntN(3000))*time.Microsecond)
	defer cancel()
	if s := w.open(ctx, w.echo); s != nil {
		_ = s.Close()
	}
}

// late reads with deadlines.
func (w *crowd) late(r *rand.Rand) {
	s := w.open(w.t.Context(), w.echo)
	if s == nil {
		return
	}
	defer s.Close()
	_ = s.SetReadDeadline(time.Now().Add(time.Duration(r.IntN(5)) * time.Millisecond))
	if _, err := s.Next(); err == nil {
		w.t.Error("something came that was not sent")
	}
	_ = s.SetReadDeadline(time.Time{})
	_, _ = s.Write([]byte("x"))
	if b, err := s.Next(); string(b) != "x" && !s.Broken() {
		w.t.Errorf("%d bytes came, %v", len(b), err)
	}
}

func (w *crowd) refused(*rand.Rand) {
	_, err := w.c.Open(w.t.Context(), "127.0.0.1", 1)
	if _, ok := errors.AsType[*Refused](err); !ok && !gone(err) {
		w.t.Errorf("port 1: %v", err)
	}
}

// run has many clients come and go.
func (w *crowd) run(clients, each int) {
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 7)) //nolint:gosec // the same in every run, as far as it goes
			for range each {
				doings := []func(*rand.Rand){w.whole, w.whole, w.leaver, w.flood, w.hasty, w.late, w.refused}
				doings[r.IntN(len(doings))](r)
			}
		})
	}
	all.Wait()
}

func newCrowd(t *testing.T, c *Conn) *crowd {
	t.Helper()
	leave := make(chan struct{})
	w := &crowd{t: t, c: c, echo: serve(t, echo), leave: sync.OnceFunc(func() { close(leave) })}
	w.sink = serve(t, func(conn *net.TCPConn) {
		_ = conn.SetReadBuffer(4 << 10)
		<-leave
	})
	w.source = serve(t, func(conn *net.TCPConn) {
		block := make([]byte, 64<<10)
		for {
			if _, err := conn.Write(block); err != nil {
				return
			}
		}
	})
	t.Cleanup(w.leave)
	return w
}

func TestWhateverClientsDoNobodyElseIsHarmed(t *testing.T) {
	c := connect(t, sshd.Start(t))
	w := newCrowd(t, c)
	w.run(24, 12)
	if w.went.Load() == 0 {
		t.Error("nothing came back")
	}
	w.leave() // the far side keeps a channel while it has bytes for somebody
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for c.Streams() > 0 {
		if err := c.Ping(ctx); err != nil {
			t.Fatalf("%v; %d streams are left", err, c.Streams())
		}
	}
}

func TestAMasterThatDiesInTheMiddleOfEverythingLeavesNobodyWaiting(t *testing.T) {
	server := sshd.Start(t)
	for _, end := range []func(c *Conn, kill func()){
		func(_ *Conn, kill func()) { kill() },
		func(c *Conn, _ func()) { _ = c.Close() },
	} {
		control, ssh := master(t, server)
		c, err := control.Proxy(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w := newCrowd(t, c)
		done := make(chan struct{})
		go func() {
			defer close(done)
			ended := &crowd{t: t, c: c, echo: w.echo, sink: w.sink, source: w.source}
			ended.run(16, 20)
		}()
		for w.c.Streams() < 8 {
			_ = c.Ping(t.Context())
		}
		end(c, ssh.Kill)
		<-done
		_ = c.Close()
		_ = ssh.Close()
	}
}

func gone(err error) bool { return errors.Is(err, ErrGone) || errors.Is(err, ErrClosed) }
