package tcp

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// path dials an address directly.
type path struct {
	addr         string
	acknowledges bool
}

func (p path) Dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", p.addr)
}
func (p path) Acknowledges() bool { return p.acknowledges }

// startServer serves every connection with fn until the test ends.
func startServer(t *testing.T, fn func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			fn(conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String()
}

func TestCheck_FailsWhenTheListenerClosesAtOnce(t *testing.T) {
	addr := startServer(t, func(net.Conn) {})
	if err := Check(t.Context(), path{addr, false}); !errors.Is(err, errClosed) && !strings.Contains(errorText(err), "reset") {
		t.Errorf("got %v", err)
	}
	if err := Check(t.Context(), path{addr, true}); err != nil {
		t.Errorf("where the tunnel acknowledged it: %v", err)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestCheck_SucceedsOnAByteOrAnOpenConnection(t *testing.T) {
	if err := Check(t.Context(), path{startServer(t, func(c net.Conn) { _, _ = c.Write([]byte("2")) }), false}); err != nil {
		t.Errorf("a server that speaks: %v", err)
	}
	silent := startServer(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) })
	if err := Check(t.Context(), path{silent, false}); err != nil {
		t.Errorf("a server that listens: %v", err)
	}
}

func TestCheck_EndsWithItsContext(t *testing.T) {
	silent := startServer(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Check(ctx, path{silent, false}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestCheck_SucceedsWithAShortTimeout(t *testing.T) {
	silent := startServer(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) })
	ctx, cancel := context.WithTimeout(t.Context(), 800*time.Millisecond)
	defer cancel()
	if err := Check(ctx, path{silent, false}); err != nil {
		t.Errorf("a server that listens, with less time than a second: %v", err)
	}
}
