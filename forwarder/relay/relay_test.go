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

func TestAClientWaitsForATunnelAndGoesThrough(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			r, tn := begin(t), openTunnel(t, network)
			client := r.waiting()
			client.send("hello")
			r.Attach(tn)
			server := tn.next(t)
			server.expect("hello")
			server.send("welcome")
			client.expect("welcome")
			signal(t, r.proofs)
			echo(client, server)

			s := r.Stats()
			if s.Open != 1 || s.Waiting != 0 || s.Total != 1 || s.Waited != 1 || s.WaitTime <= 0 || s.Replays != 0 {
				t.Errorf("got %+v", s)
			}
			if s.BytesIn != 9 || s.BytesOut != 11 || time.Since(s.LastByte) > patience {
				t.Errorf("got %+v", s)
			}
			client.Close()
			server.expectEnd()
			server.Close()
			signal(t, r.quiets)
		})
	}
}

func TestAServerMaySpeakFirst(t *testing.T) {
	r, tn := begin(t), openTunnel(t, "tcp")
	r.Attach(tn)
	client := r.dial()
	server := tn.next(t)
	server.send("220 ready")
	client.expect("220 ready")
	echo(client, server)
	if s := r.Stats(); s.Waited != 0 {
		t.Errorf("it waited: %+v", s)
	}
}

func TestConnectTimeoutResetsAWaitingClient(t *testing.T) {
	r := run(t, 50*time.Millisecond, brisk)
	client := r.dial()
	client.send("hello")
	client.expectReset()
	signal(t, r.quiets)
	if s := r.Stats(); s.Waiting != 0 || s.Total != 1 {
		t.Errorf("got %+v", s)
	}
}

func TestAChangedConnectTimeoutIsForClientsToCome(t *testing.T) {
	r, tn := begin(t), openTunnel(t, "tcp")
	first := r.waiting()
	r.SetConnectTimeout(50 * time.Millisecond)
	r.dial().expectReset()
	r.Attach(tn)
	echo(first, tn.next(t))
}

func TestConnectTimeoutEndsADial(t *testing.T) {
	r, tn := run(t, 50*time.Millisecond, brisk), openTunnel(t, "tcp")
	tn.onDial = func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	r.Attach(tn)
	r.dial().expectReset()
}

func TestAClientThatLeavesWhileItWaitsIsNoticed(t *testing.T) {
	for _, sent := range []string{"", "some bytes that nobody reads"} {
		r := begin(t)
		client := r.waiting()
		client.send(sent)
		client.reset()
		signal(t, r.quiets)
		if s := r.Stats(); s.Waiting != 0 {
			t.Errorf("got %+v", s)
		}
	}
}

func TestAClientThatLeavesWhileItIsDialledIsNoticed(t *testing.T) {
	r, tn := begin(t), openTunnel(t, "tcp")
	dialling, cancelled := make(chan struct{}), make(chan struct{})
	tn.onDial = func(ctx context.Context) error {
		close(dialling)
		<-ctx.Done()
		close(cancelled)
		return ctx.Err()
	}
	r.Attach(tn)
	client := r.dial()
	signal(t, dialling)
	client.reset()
	signal(t, cancelled)
	signal(t, r.quiets)
}

func TestAHalfCloseWhileWaitingIsNoEnd(t *testing.T) {
	r, tn := begin(t), openTunnel(t, "tcp")
	client := r.waiting()
	client.send("question")
	client.finish()
	r.Attach(tn)
	server := tn.next(t)
	server.expect("question")
	server.expectEnd()
	server.send("answer")
	server.Close()
	client.expect("answer")
	client.expectEnd()
	signal(t, r.quiets)
}

func TestNobodyIsRefusedWhileTunnelsComeAndGo(t *testing.T) {
	r := begin(t)
	stop := make(chan struct{})
	var swaps sync.WaitGroup
	swaps.Go(func() { swap(t, r, stop) })
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			for j := range 40 {
				speak(t, r, fmt.Sprintf("%d.%d", i, j))
			}
		})
	}
	clients.Wait()
	close(stop)
	swaps.Wait()
	signal(t, r.quiets)
}

// swap attaches tunnels of echo servers that live for five connections each, and then refuse until they are replaced.
func swap(t *testing.T, r *fixture, stop chan struct{}) {
	for {
		tn := openTunnel(t, "tcp")
		served := make(chan struct{}, 4096)
		tn.serve = func(conn net.Conn) {
			_, _ = io.Copy(conn, conn)
			conn.Close()
			served <- struct{}{}
		}
		var dials atomic.Int32
		tn.onDial = func(context.Context) error {
			if dials.Add(1) > 5 {
				return &forwarder.Refusal{Reason: "no more", Connect: true}
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

func speak(t *testing.T, r *fixture, text string) {
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

func TestATunnelThatIsDoneDetachesItself(t *testing.T) {
	r, first, second := begin(t), openTunnel(t, "tcp"), openTunnel(t, "tcp")
	r.Attach(first)
	first.end(errors.New("gone"))
	eventually(t, "detached", func() bool {
		_, err := r.Dial(t.Context())
		return errors.Is(err, ErrNoTunnel)
	})
	client := r.waiting()
	r.Attach(second)
	echo(client, second.next(t))
}

func TestDetachSendsADialledClientBackToWait(t *testing.T) {
	r, first, second := begin(t), openTunnel(t, "tcp"), openTunnel(t, "tcp")
	dialling := make(chan struct{})
	first.onDial = func(ctx context.Context) error {
		close(dialling)
		<-ctx.Done()
		return ctx.Err()
	}
	r.Attach(first)
	client := r.dial()
	signal(t, dialling)
	r.Detach(second) // is not attached: nothing happens
	r.Detach(first)
	signal(t, r.waits)
	r.Attach(second)
	echo(client, second.next(t))
}

func TestAnEstablishedConnectionOutlivesItsTunnelsAttachment(t *testing.T) {
	r, tn := begin(t), openTunnel(t, "tcp")
	r.Attach(tn)
	client := r.dial()
	server := tn.next(t)
	echo(client, server)
	r.Detach(tn)
	echo(client, server)
	r.Attach(tn)
	echo(client, server)
	echo(r.dial(), tn.next(t))
}

func TestRejectResetsUntilHoldOrAttach(t *testing.T) {
	r, tn := begin(t), openTunnel(t, "tcp")
	client := r.waiting()
	r.Reject()
	client.expectReset()
	if err := firstError(r.addr); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}

	r.Hold()
	client = r.waiting()
	r.Reject()
	client.expectReset()

	r.Attach(tn)
	echo(r.dial(), tn.next(t))
}

// firstError is how a connection ends; a reset may come as early as the connect returns.
func firstError(addr string) error {
	conn, err := dialTCP(addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_, err = conn.Read(make([]byte, 1))
	return err
}

func TestDropWaitingResetsOnlyThoseThatWaitNow(t *testing.T) {
	r, tn := begin(t), openTunnel(t, "tcp")
	first := r.waiting()
	r.DropWaiting()
	first.expectReset()
	second := r.waiting()
	r.Attach(tn)
	server := tn.next(t)
	r.DropWaiting()
	echo(second, server)
}

func TestDropWaitingEndsDials(t *testing.T) {
	r, tn := begin(t), openTunnel(t, "tcp")
	dialling := make(chan struct{}, 1)
	tn.onDial = func(ctx context.Context) error {
		dialling <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	r.Attach(tn)
	client := r.dial()
	signal(t, dialling)
	r.DropWaiting()
	client.expectReset()
	if s := r.Stats(); s.Waiting != 0 {
		t.Errorf("got %+v", s)
	}
}

func TestStopAcceptingLetsEstablishedConnectionsFinish(t *testing.T) {
	r, tn := begin(t), openTunnel(t, "tcp")
	r.Attach(tn)
	client := r.dial()
	server := tn.next(t)
	echo(client, server)
	r.StopAccepting()
	if conn, err := dialTCP(r.addr); err == nil {
		_ = conn.Close()
		t.Error("it accepts still")
	}
	echo(client, server)
}

func TestCloseResetsEveryClient(t *testing.T) {
	r, tn := begin(t), openTunnel(t, "tcp")
	waiting := r.waiting()
	r.Attach(tn)
	tn.next(t)
	established := r.dial()
	server := tn.next(t)
	echo(established, server)
	idle := r.dial()
	tn.next(t)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for _, client := range []*duplex{waiting, established, idle} {
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

func TestAPanicInATunnelCostsOneClient(t *testing.T) {
	broken := make(chan *forwarder.Failure, 1)
	f := begin(t)
	f.options.OnBroken = func(_ forwarder.Tunnel, failure *forwarder.Failure, _ []byte) { broken <- failure }
	tn := openTunnel(t, "tcp")
	tn.serve = func(c net.Conn) {
		_, _ = io.WriteString(c, "hello")
		_ = c.Close()
	}
	var once sync.Once
	tn.onDial = func(context.Context) error {
		once.Do(func() { panic("it broke") })
		return nil
	}
	f.Attach(tn)
	// The reset may come before the kernel tells that there is a connection.
	if conn, err := net.Dial("tcp", f.addr); err == nil {
		bound(t, conn)
		_, err = conn.Read(make([]byte, 1))
		conn.Close()
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v", err)
		}
	} else if !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
	if failure := signal(t, broken); !strings.Contains(failure.Reason, "it broke") {
		t.Errorf("got %+v", failure)
	}
	f.dial().expect("hello")
}
