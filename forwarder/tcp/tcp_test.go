package tcp

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/ports"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openTunnel(t *testing.T, host, port string) forwarder.Tunnel {
	t.Helper()
	svc := project.Service{LocalPort: 1, RemotePort: port, Connection: project.Connection{Settings: project.Settings{"remote_host": host}}}
	tunnel, err := driver{}.Open(t.Context(), svc, forwarder.Run{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tunnel.Close() })
	return tunnel
}

func requireRefusal(t *testing.T, err error) *forwarder.Refusal {
	t.Helper()
	r, ok := errors.AsType[*forwarder.Refusal](err)
	if !ok || !r.IsConnectFailure {
		t.Fatalf("got %v, want a refused connect", err)
	}
	return r
}

func TestTunnel_CarriesBytesAndHalfClose(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_, err = io.Copy(conn, conn)
			conn.Close()
		}
		served <- err
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	tunnel := openTunnel(t, "localhost", port)
	conn, err := tunnel.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if !tunnel.Acknowledges() || tunnel.Refusals() != nil {
		t.Error("want acknowledged connections and no separate refusals")
	}
}

func TestTunnel_FailedDialIsRefusalWithShortReason(t *testing.T) {
	port := strconv.Itoa(ports.FreePort(t))
	_, err := openTunnel(t, "127.0.0.1", port).Dial(t.Context())
	if got := requireRefusal(t, err).Reason; got != "127.0.0.1:"+port+": connection refused" {
		t.Errorf("refused: %q", got)
	}

	_, err = openTunnel(t, "no-such-host.invalid", "80").Dial(t.Context())
	got := requireRefusal(t, err).Reason
	if !strings.HasPrefix(got, "no-such-host.invalid:80: ") || strings.Count(got, "no-such-host") != 1 {
		t.Errorf("unknown name: %q", got)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	_, err = openTunnel(t, "127.0.0.1", port).Dial(ctx)
	if got := requireRefusal(t, err).Reason; got != "127.0.0.1:"+port+": timed out" {
		t.Errorf("after the deadline: %q", got)
	}

	canceledCtx, cancelDial := context.WithCancel(t.Context())
	cancelDial()
	if _, err = openTunnel(t, "127.0.0.1", port).Dial(canceledCtx); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestDriver_OpenRejectsOwnLocalAddress(t *testing.T) {
	for _, tt := range []struct {
		host, local string
		isLoop      bool
	}{
		{"127.0.0.1", "", true},
		{"localhost", "", true},
		{"0.0.0.0", "", true},
		{"::1", "", true},
		{"127.0.0.1", "127.0.0.2", false},
		{"127.0.0.2", "", false},
		{"127.0.0.2", "127.0.0.2", true},
	} {
		svc := project.Service{
			LocalPort: 5432, RemotePort: "5432", Connection: project.Connection{Settings: project.Settings{"remote_host": tt.host}},
		}
		if tt.local != "" {
			svc.LocalAddress = netip.MustParseAddr(tt.local)
		}
		tunnel, err := driver{}.Open(t.Context(), svc, forwarder.Run{})
		failure, isFailure := errors.AsType[*forwarder.Failure](err)
		if isFailure != tt.isLoop || isFailure && (failure.Class != forwarder.Permanent || failure.Hint == "") {
			t.Errorf("remote %q, local %q: %v", tt.host, tt.local, err)
		}
		if tunnel != nil {
			_ = tunnel.Close()
		}
	}
}

func TestTunnel_DialRefusesOwnLocalAddress(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr := l.Addr().(*net.TCPAddr).AddrPort()
	tunnel := &tunnel{
		addr: addr.String(), relay: relayAddrs{port: addr.Port(), hosts: []netip.Addr{addr.Addr()}}, doneCh: make(chan struct{}),
	}
	_, err = tunnel.Dial(t.Context())
	if got := requireRefusal(t, err).Reason; !strings.Contains(got, errLoop.Error()) {
		t.Errorf("got %q", got)
	}
}

func TestTunnel_CloseEndsIt(t *testing.T) {
	tunnel := openTunnel(t, "127.0.0.1", "9")
	for range 2 {
		if err := tunnel.Close(); err != nil {
			t.Error(err)
		}
	}
	<-tunnel.Done()
	if err := tunnel.Err(); err != nil {
		t.Error(err)
	}
	if _, err := tunnel.Dial(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dial after close: %v", err)
	}
}
