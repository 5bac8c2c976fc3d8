package tcp

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/testdata/tcpserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// directDialer dials an address directly.
type directDialer struct {
	addr         string
	acknowledges bool
}

func (d directDialer) Dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", d.addr)
}
func (d directDialer) Acknowledges() bool { return d.acknowledges }

func startServer(t *testing.T, serve func(*net.TCPConn)) string {
	t.Helper()
	return tcpserver.Start(t, serve).String()
}

func TestCheck_FailsWhenTheListenerClosesAtOnce(t *testing.T) {
	addr := startServer(t, func(*net.TCPConn) {})
	if err := Check(t.Context(), directDialer{addr, false}); !errors.Is(err, errClosed) && !strings.Contains(errorText(err), "reset") {
		t.Errorf("got %v", err)
	}
	if err := Check(t.Context(), directDialer{addr, true}); err != nil {
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
	if err := Check(t.Context(), directDialer{startServer(t, func(c *net.TCPConn) { _, _ = c.Write([]byte("2")) }), false}); err != nil {
		t.Errorf("a server that sends first: %v", err)
	}
	silent := startServer(t, func(c *net.TCPConn) { _, _ = c.Read(make([]byte, 1)) })
	if err := Check(t.Context(), directDialer{silent, false}); err != nil {
		t.Errorf("a server that waits for the client: %v", err)
	}
}

func TestCheck_EndsWithItsContext(t *testing.T) {
	silent := startServer(t, func(c *net.TCPConn) { _, _ = c.Read(make([]byte, 1)) })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Check(ctx, directDialer{silent, false}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestCheck_SucceedsWithAShortTimeout(t *testing.T) {
	silent := startServer(t, func(c *net.TCPConn) { _, _ = c.Read(make([]byte, 1)) })
	ctx, cancel := context.WithTimeout(t.Context(), 800*time.Millisecond)
	defer cancel()
	if err := Check(ctx, directDialer{silent, false}); err != nil {
		t.Errorf("with less time than a second: %v", err)
	}
}
