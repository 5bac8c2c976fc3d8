package tcp

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
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

// lateConn is a connection that its server has closed, of a process that the machine does not run for a while: the first read begins after its deadline.
type lateConn struct {
	net.Conn
	deadline time.Time
	isLate   bool
}

func (c *lateConn) SetReadDeadline(deadline time.Time) error {
	c.deadline = deadline
	return nil
}

func (c *lateConn) Read([]byte) (int, error) {
	if !c.isLate {
		c.isLate = true
		time.Sleep(time.Until(c.deadline) + 500*time.Millisecond)
	}
	if time.Now().After(c.deadline) {
		return 0, os.ErrDeadlineExceeded
	}
	return 0, io.EOF
}

func (c *lateConn) Close() error { return nil }

type lateDialer struct{}

func (lateDialer) Dial(context.Context) (net.Conn, error) { return &lateConn{}, nil }
func (lateDialer) Acknowledges() bool                     { return false }

func TestCheck_FailsOnABusyMachineToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if err := Check(t.Context(), lateDialer{}); !errors.Is(err, errClosed) {
			t.Errorf("the check of a closed connection returns %v", err)
		}
	})
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

// pingedConn is a connection whose far end answers pings, with an error or none, when servedCh is closed.
type pingedConn struct {
	net.Conn
	err      error
	servedCh <-chan struct{}
}

func (c pingedConn) Ping(context.Context) error {
	<-c.servedCh
	return c.err
}

// earlyDialer dials pingedConns, and records early successes.
type earlyDialer struct {
	directDialer
	pingErr  error
	servedCh <-chan struct{}
	early    *[]time.Duration
}

func (d earlyDialer) Dial(ctx context.Context) (net.Conn, error) {
	conn, err := d.directDialer.Dial(ctx)
	return pingedConn{conn, d.pingErr, d.servedCh}, err
}

func (d earlyDialer) ReportEarlySuccess(roundTrip time.Duration) {
	*d.early = append(*d.early, roundTrip)
}

func TestCheck_ReportsAnEarlySuccess(t *testing.T) {
	stays := func(c *net.TCPConn, answerPing func()) { answerPing(); _, _ = c.Read(make([]byte, 1)) }
	sendsFirst := func(c *net.TCPConn, answerPing func()) { _, _ = c.Write([]byte("2")); stays(c, answerPing) }
	refused := func(c *net.TCPConn, answerPing func()) { c.Close(); answerPing() }
	refusedLater := func(c *net.TCPConn, answerPing func()) {
		_ = c.SetReadDeadline(time.Now().Add(refusalDelay + 200*time.Millisecond))
		stays(c, answerPing)
	}
	for _, test := range []struct {
		name      string
		serve     func(c *net.TCPConn, answerPing func())
		pingErr   error
		wantEarly int
		want      error
	}{
		{"a server that waits for the client", stays, nil, 1, nil},
		{"a server that sends first", sendsFirst, nil, 0, nil},
		{"a refusal just after the ping", refused, nil, 0, errClosed},
		{"a refusal later", refusedLater, nil, 1, errClosed},
		{"no answer to the ping", stays, errors.ErrUnsupported, 0, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var early []time.Duration
			servedCh := make(chan struct{}) // closed when the server has done what comes before the answer to the ping
			addr := startServer(t, func(c *net.TCPConn) { test.serve(c, func() { close(servedCh) }) })
			err := Check(t.Context(), earlyDialer{directDialer{addr, false}, test.pingErr, servedCh, &early})
			if !errors.Is(err, test.want) || len(early) != test.wantEarly {
				t.Errorf("%v, and %d early successes, want %v and %d", err, len(early), test.want, test.wantEarly)
			}
		})
	}
}
