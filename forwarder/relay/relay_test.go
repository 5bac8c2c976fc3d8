package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

func TestRelay_ConnectsWaitingClientWhenTunnelIsAttached(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			r, tn := startRelay(t), openTunnel(t, network)
			client := r.dialWaitingClient()
			client.send("hello")
			r.Attach(tn)
			server := tn.nextConn(t)
			server.expectText("hello")
			server.send("welcome")
			client.expectText("welcome")
			receive(t, r.reachedCh)
			pingPong(client, server)

			s := r.Stats()
			if s.Open != 1 || s.Waiting != 0 || s.Total != 1 || s.Waited != 1 || s.WaitTime <= 0 || s.Replays != 0 {
				t.Errorf("got %+v", s)
			}
			if s.BytesIn != 9 || s.BytesOut != 11 || time.Since(s.LastByte) > testTimeout {
				t.Errorf("got %+v", s)
			}
			client.Close()
			server.expectEOF()
			server.Close()
			receive(t, r.lastClientCh)
		})
	}
}

func TestRelay_ServerMaySendFirst(t *testing.T) {
	r, tn := startRelay(t), openTunnel(t, "tcp")
	r.Attach(tn)
	client := r.dialClient()
	server := tn.nextConn(t)
	server.send("220 ready")
	client.expectText("220 ready")
	pingPong(client, server)
	if s := r.Stats(); s.Waited != 0 {
		t.Errorf("it waited: %+v", s)
	}
}

func TestRelay_ConnectTimeoutResetsWaitingClient(t *testing.T) {
	r := startRelayWithTiming(t, 50*time.Millisecond, fastTiming)
	client := r.dialClient()
	client.send("hello")
	client.expectReset()
	receive(t, r.lastClientCh)
	if s := r.Stats(); s.Waiting != 0 || s.Total != 1 {
		t.Errorf("got %+v", s)
	}
}

func TestRelay_SetConnectTimeoutAppliesToNewClients(t *testing.T) {
	r, tn := startRelay(t), openTunnel(t, "tcp")
	first := r.dialWaitingClient()
	r.SetConnectTimeout(50 * time.Millisecond)
	r.dialClient().expectReset()
	r.Attach(tn)
	pingPong(first, tn.nextConn(t))
}

func TestRelay_ConnectTimeoutEndsDial(t *testing.T) {
	r, tn := startRelayWithTiming(t, 50*time.Millisecond, fastTiming), openTunnel(t, "tcp")
	tn.onDial = func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	r.Attach(tn)
	r.dialClient().expectReset()
}

func TestRelay_NoticesClientThatDisconnectsWhileWaiting(t *testing.T) {
	for _, sent := range []string{"", "some bytes that nobody reads"} {
		r := startRelay(t)
		client := r.dialWaitingClient()
		client.send(sent)
		client.reset()
		receive(t, r.lastClientCh)
		if s := r.Stats(); s.Waiting != 0 {
			t.Errorf("got %+v", s)
		}
	}
}

func TestRelay_NoticesClientThatDisconnectsDuringDial(t *testing.T) {
	r, tn := startRelay(t), openTunnel(t, "tcp")
	dialingCh, canceledCh := make(chan struct{}), make(chan struct{})
	tn.onDial = func(ctx context.Context) error {
		close(dialingCh)
		<-ctx.Done()
		close(canceledCh)
		return ctx.Err()
	}
	r.Attach(tn)
	client := r.dialClient()
	receive(t, dialingCh)
	client.reset()
	receive(t, canceledCh)
	receive(t, r.lastClientCh)
}

func TestRelay_KeepsClientThatHalfClosesWhileWaiting(t *testing.T) {
	r, tn := startRelay(t), openTunnel(t, "tcp")
	client := r.dialWaitingClient()
	client.send("question")
	client.closeWrite()
	r.Attach(tn)
	server := tn.nextConn(t)
	server.expectText("question")
	server.expectEOF()
	server.send("answer")
	server.Close()
	client.expectText("answer")
	client.expectEOF()
	receive(t, r.lastClientCh)
}

func TestRelay_RefusesNoClientWhileTunnelsAreReplaced(t *testing.T) {
	r := startRelay(t)
	stop := make(chan struct{})
	var replacing sync.WaitGroup
	replacing.Go(func() { replaceTunnels(t, r, stop) })
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			for j := range 40 {
				checkEchoThrough(t, r, fmt.Sprintf("%d.%d", i, j))
			}
		})
	}
	clients.Wait()
	close(stop)
	replacing.Wait()
	receive(t, r.lastClientCh)
}

// replaceTunnels attaches one tunnel to an echo server after the other. Each refuses after five connections.
func replaceTunnels(t *testing.T, r *relayFixture, stop chan struct{}) {
	for {
		tn := openTunnel(t, "tcp")
		served := make(chan struct{}, 4096)
		tn.serveConn = func(conn net.Conn) {
			_, _ = io.Copy(conn, conn)
			conn.Close()
			served <- struct{}{}
		}
		var dials atomic.Int32
		tn.onDial = func(context.Context) error {
			if dials.Add(1) > 5 {
				return &forwarder.Refusal{Reason: "no more", IsConnectFailure: true}
			}
			return nil
		}
		r.Attach(tn)
		for range 5 {
			select {
			case <-served:
			case <-stop:
				return
			}
		}
		r.Detach(tn)
		_ = tn.Close()
	}
}

func checkEchoThrough(t *testing.T, r *relayFixture, text string) {
	conn, err := dialTCP(r.addr)
	if err != nil {
		t.Errorf("refused: %v", err)
		return
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, text)
	_ = conn.CloseWrite()
	if got, err := io.ReadAll(conn); err != nil || string(got) != text {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestRelay_DetachesTunnelThatIsDone(t *testing.T) {
	r, first, second := startRelay(t), openTunnel(t, "tcp"), openTunnel(t, "tcp")
	r.Attach(first)
	first.end(errors.New("gone"))
	eventually(t, "detached", func() bool {
		_, err := r.Dial(t.Context())
		return errors.Is(err, ErrNoTunnel)
	})
	client := r.dialWaitingClient()
	r.Attach(second)
	pingPong(client, second.nextConn(t))
}

func TestRelay_DetachReturnsDialedClientToQueue(t *testing.T) {
	r, first, second := startRelay(t), openTunnel(t, "tcp"), openTunnel(t, "tcp")
	dialingCh := make(chan struct{})
	first.onDial = func(ctx context.Context) error {
		close(dialingCh)
		<-ctx.Done()
		return ctx.Err()
	}
	r.Attach(first)
	client := r.dialClient()
	receive(t, dialingCh)
	r.Detach(second) // not attached: no effect
	r.Detach(first)
	receive(t, r.waitingCh)
	r.Attach(second)
	pingPong(client, second.nextConn(t))
}

func TestRelay_DetachKeepsEstablishedConnections(t *testing.T) {
	r, tn := startRelay(t), openTunnel(t, "tcp")
	r.Attach(tn)
	client := r.dialClient()
	server := tn.nextConn(t)
	pingPong(client, server)
	r.Detach(tn)
	pingPong(client, server)
	r.Attach(tn)
	pingPong(client, server)
	pingPong(r.dialClient(), tn.nextConn(t))
}

func TestRelay_RejectResetsClientsUntilHoldOrAttach(t *testing.T) {
	r, tn := startRelay(t), openTunnel(t, "tcp")
	client := r.dialWaitingClient()
	r.Reject()
	client.expectReset()
	if err := readError(r.addr); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}

	r.Hold()
	client = r.dialWaitingClient()
	r.Reject()
	client.expectReset()

	r.Attach(tn)
	pingPong(r.dialClient(), tn.nextConn(t))
}

// readError returns the error that a new connection ends with; a reset may come before connect returns.
func readError(addr string) error {
	conn, err := dialTCP(addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_, err = conn.Read(make([]byte, 1))
	return err
}

func TestRelay_DropWaitingResetsOnlyCurrentlyWaitingClients(t *testing.T) {
	r, tn := startRelay(t), openTunnel(t, "tcp")
	first := r.dialWaitingClient()
	r.DropWaiting()
	first.expectReset()
	second := r.dialWaitingClient()
	r.Attach(tn)
	server := tn.nextConn(t)
	r.DropWaiting()
	pingPong(second, server)
}

func TestRelay_DropWaitingCancelsDials(t *testing.T) {
	r, tn := startRelay(t), openTunnel(t, "tcp")
	dialingCh := make(chan struct{}, 1)
	tn.onDial = func(ctx context.Context) error {
		dialingCh <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	r.Attach(tn)
	client := r.dialClient()
	receive(t, dialingCh)
	r.DropWaiting()
	client.expectReset()
	if s := r.Stats(); s.Waiting != 0 {
		t.Errorf("got %+v", s)
	}
}

func TestRelay_StopAcceptingKeepsEstablishedConnections(t *testing.T) {
	r, tn := startRelay(t), openTunnel(t, "tcp")
	r.Attach(tn)
	client := r.dialClient()
	server := tn.nextConn(t)
	pingPong(client, server)
	r.StopAccepting()
	if conn, err := dialTCP(r.addr); err == nil {
		_ = conn.Close()
		t.Error("it still accepts")
	}
	pingPong(client, server)
}

func TestRelay_CloseResetsEveryClient(t *testing.T) {
	r, tn := startRelay(t), openTunnel(t, "tcp")
	waiting := r.dialWaitingClient()
	r.Attach(tn)
	tn.nextConn(t)
	established := r.dialClient()
	server := tn.nextConn(t)
	pingPong(established, server)
	idle := r.dialClient()
	tn.nextConn(t)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for _, client := range []*testConn{waiting, established, idle} {
		client.expectReset()
	}
	server.expectReset()
	if _, err := r.Dial(t.Context()); !errors.Is(err, ErrNoTunnel) {
		t.Errorf("got %v", err)
	}
	if s := r.Stats(); s.Open != 0 || s.Waiting != 0 {
		t.Errorf("got %+v", s)
	}
}

func TestRelay_TunnelPanicResetsOneClient(t *testing.T) {
	panicCh := make(chan *forwarder.Failure, 1)
	f := startRelay(t)
	f.options.OnPanic = func(_ forwarder.Tunnel, failure *forwarder.Failure, _ []byte) { panicCh <- failure }
	tn := openTunnel(t, "tcp")
	tn.serveConn = func(c net.Conn) {
		_, _ = io.WriteString(c, "hello")
		_ = c.Close()
	}
	var once sync.Once
	tn.onDial = func(context.Context) error {
		once.Do(func() { panic("it broke") })
		return nil
	}
	f.Attach(tn)
	// The connection may be reset before connect returns.
	if conn, err := net.Dial("tcp", f.addr); err == nil {
		setTestDeadline(t, conn)
		_, err = conn.Read(make([]byte, 1))
		conn.Close()
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v", err)
		}
	} else if !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
	if failure := receive(t, panicCh); !strings.Contains(failure.Reason, "it broke") {
		t.Errorf("got %+v", failure)
	}
	f.dialClient().expectText("hello")
}
