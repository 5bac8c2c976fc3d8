package mux

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/sshd"
	"github.com/localport-sh/localport/testdata/tcpserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startMaster starts a real ssh master and returns a Control and its process.
func startMaster(t testing.TB, server *sshd.Server) (*Control, *process.Child) {
	t.Helper()
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("ssh is missing (Debian: openssh-client)")
	}
	dir, err := os.MkdirTemp("", "lpm") //nolint:usetesting // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "m")
	ready := make(chan struct{}, 8)
	ssh, err := process.Start(process.Command{
		Argv: []string{
			"ssh", "-M", "-N", "-S", path, "-F", server.ConfigFile, "-o", "BatchMode=yes", "-o", "LogLevel=DEBUG1",
			"-l", server.User, "-p", strconv.Itoa(server.Port), server.Host,
		},
		Env: os.Environ(), Dir: dir,
		OnLine: func(_ process.Stream, line string) {
			if strings.Contains(line, "Entering interactive session") {
				ready <- struct{}{}
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ssh.Close() })
	select {
	case <-ready:
	case <-ssh.Done():
		t.Fatalf("ssh exited: %v", ssh.LastLines())
	}
	control, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = control.Close() })
	return control, ssh
}

// openConn returns a Conn of a new master.
func openConn(t testing.TB, server *sshd.Server) *Conn {
	t.Helper()
	control, _ := startMaster(t, server)
	conn, err := control.OpenProxy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// startServer starts a server that calls onConn for each connection, and returns its port.
func startServer(t testing.TB, onConn func(*net.TCPConn)) int {
	t.Helper()
	return tcpserver.Start(t, onConn).Port
}

func openStream(t testing.TB, c *Conn, port int) *Stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s, err := c.Open(ctx, "127.0.0.1", port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// requireNoStreams fails the test if any stream is left.
func requireNoStreams(t *testing.T, c *Conn) {
	t.Helper()
	if err := c.Ping(t.Context()); err != nil { // all that arrived before the answer has been handled
		t.Fatal(err)
	}
	if n := c.StreamCount(); n != 0 {
		t.Errorf("%d streams are left", n)
	}
}

func TestStream_CarriesBytesAndEOFInBothDirections(t *testing.T) {
	c := openConn(t, sshd.Start(t))
	for range 3 {
		s := openStream(t, c, startServer(t, func(conn *net.TCPConn) {
			all, _ := io.ReadAll(conn) // to the client's end of file
			_, _ = conn.Write(bytes.ToUpper(all))
		}))
		if _, err := s.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if err := s.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(s); err != nil || string(got) != "HELLO" {
			t.Errorf("got %q, %v", got, err)
		}
		if err := s.WaitEnd(); err != nil || s.IsBroken() {
			t.Errorf("end: %v, broken %v", err, s.IsBroken())
		}
	}
	requireNoStreams(t, c)
}

func TestStream_CanWriteAfterRemoteEOF(t *testing.T) {
	c := openConn(t, sshd.Start(t))
	rest := make(chan string, 1)
	s := openStream(t, c, startServer(t, func(conn *net.TCPConn) {
		_, _ = conn.Write([]byte("bye"))
		_ = conn.CloseWrite()
		all, _ := io.ReadAll(conn)
		rest <- string(all)
	}))
	if got, err := io.ReadAll(s); err != nil || string(got) != "bye" {
		t.Fatalf("got %q, %v", got, err)
	}
	if _, err := s.Write([]byte("still here")); err != nil {
		t.Fatal(err)
	}
	_ = s.CloseWrite()
	if got := <-rest; got != "still here" {
		t.Errorf("the server got %q", got)
	}
}

func TestConn_OpenRefusalHasServersReasonAndKeepsOtherStreams(t *testing.T) {
	server := sshd.Start(t, "PermitOpen 127.0.0.1:* no-such-host.invalid:*")
	c := openConn(t, server)
	s := openStream(t, c, startServer(t, tcpserver.Echo))
	for _, tt := range []struct {
		host string
		port int
		code uint32
		want string
	}{
		{"127.0.0.1", 1, ConnectionFailed, "open failed: connect failed: Connection refused"},
		{"no-such-host.invalid", 80, ConnectionFailed, "open failed: connect failed"},
		{"::1", 80, Prohibited, "open failed: administratively prohibited: open failed"},
	} {
		_, err := c.Open(t.Context(), tt.host, tt.port)
		refused, ok := errors.AsType[*OpenChannelError](err)
		if !ok || refused.Reason != tt.code || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.host, err)
		}
	}
	if _, err := s.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if b, err := s.Next(); err != nil || string(b) != "x" {
		t.Errorf("got %q, %v", b, err)
	}
	if n := c.RefusalCount(); n != 3 {
		t.Errorf("%d refusals", n)
	}
}

func TestConn_PingIsAnsweredByTheServer(t *testing.T) {
	server := sshd.Start(t)
	c := openConn(t, server)
	if err := c.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := c.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ping of a frozen server: %v", err)
	}
}

func TestStream_CarriesLargeTransferUnchanged(t *testing.T) {
	echoRandomBytes(t, sshd.Start(t), 64<<20)
}

func TestStream_SurvivesRekeying(t *testing.T) {
	echoRandomBytes(t, sshd.Start(t, "RekeyLimit 1M"), 3<<20)
}

func echoRandomBytes(t *testing.T, server *sshd.Server, size int64) {
	t.Helper()
	c := openConn(t, server)
	want := sha256.New()
	s := openStream(t, c, startServer(t, tcpserver.Echo))
	var sending sync.WaitGroup
	sending.Go(func() {
		if _, err := io.Copy(io.MultiWriter(s, want), io.LimitReader(rand.Reader, size)); err != nil {
			t.Error(err)
		}
		_ = s.CloseWrite()
	})
	got := sha256.New()
	n, err := io.Copy(got, s)
	sending.Wait()
	if err != nil || n != size || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		t.Errorf("%d bytes were echoed, %v", n, err)
	}
}

func TestStream_UnreadStreamDoesNotBlockOthers(t *testing.T) {
	c := openConn(t, sshd.Start(t))
	endless := startServer(t, func(conn *net.TCPConn) {
		block := make([]byte, 64<<10)
		for {
			if _, err := conn.Write(block); err != nil {
				return
			}
		}
	})
	slow := openStream(t, c, endless)
	other := openStream(t, c, startServer(t, tcpserver.Echo))
	for range 100 {
		if _, err := other.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if b, err := other.Next(); err != nil || string(b) != "x" {
			t.Fatalf("got %q, %v", b, err)
		}
	}
	slow.mu.Lock()
	held := 0
	for _, p := range slow.queue {
		held += len(p.bytes)
	}
	slow.mu.Unlock()
	if held > initialWindow {
		t.Errorf("%d bytes are queued", held)
	}
	_ = slow.Close()
	if _, err := slow.Next(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestConn_OpensManyStreamsConcurrently(t *testing.T) {
	c := openConn(t, sshd.Start(t))
	port := startServer(t, tcpserver.Echo)
	for range 2 {
		var all sync.WaitGroup
		for i := range 300 {
			all.Go(func() {
				s, err := c.Open(t.Context(), "127.0.0.1", port)
				if err != nil {
					t.Error(err)
					return
				}
				defer s.Close()
				want := fmt.Sprint("hello ", i)
				_, _ = s.Write([]byte(want))
				_ = s.CloseWrite()
				if got, err := io.ReadAll(s); err != nil || string(got) != want {
					t.Errorf("got %q, %v", got, err)
				}
				_ = s.WaitEnd()
			})
		}
		all.Wait()
	}
	requireNoStreams(t, c)
}

func TestStream_IsBrokenWhenMasterIsKilled(t *testing.T) {
	server := sshd.Start(t)
	control, ssh := startMaster(t, server)
	c, err := control.OpenProxy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, last := openStream(t, c, startServer(t, tcpserver.Echo)), openStream(t, c, startServer(t, func(conn *net.TCPConn) { _, _ = conn.Write([]byte("bye")) }))
	if got, err := io.ReadAll(last); err != nil || string(got) != "bye" {
		t.Errorf("got %q, %v", got, err)
	}
	ssh.Kill()
	if _, err := s.Next(); !errors.Is(err, io.EOF) || !s.IsBroken() {
		t.Errorf("got %v, broken %v", err, s.IsBroken())
	}
	if err := last.WaitEnd(); err != nil || last.IsBroken() { // a client that has received the EOF must see no reset
		t.Errorf("stream after EOF: %v, broken %v", err, last.IsBroken())
	}
	<-c.Done()
	if !errors.Is(c.Err(), ErrMasterEnded) {
		t.Errorf("ended with %v", c.Err())
	}
	if _, err := c.Open(t.Context(), "127.0.0.1", 1); !errors.Is(err, ErrMasterEnded) {
		t.Errorf("opened: %v", err)
	}
}

func TestControl_MasterEndsWithLastConnAfterStopListening(t *testing.T) {
	server := sshd.Start(t)
	control, ssh := startMaster(t, server)
	if err := control.StopListening(t.Context()); err != nil {
		t.Fatal(err)
	}
	path := control.socket.RemoteAddr().String()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket still exists: %v", err)
	}
	c, err := control.OpenProxy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = openStream(t, c, startServer(t, tcpserver.Echo)).Close()
	_ = c.Close()
	<-ssh.Done()
}

func TestControl_ServerListensUntilForwardIsClosed(t *testing.T) {
	control, _ := startMaster(t, sshd.Start(t))
	remotePort := ports.FreePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", remotePort)
	f := RemoteForward{ListenHost: "127.0.0.1", ListenPort: remotePort, DialHost: "127.0.0.1", DialPort: startServer(t, tcpserver.Echo)}
	if err := control.OpenForward(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = conn.Write([]byte("x"))
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := control.OpenForward(t.Context(), RemoteForward{ListenHost: "127.0.0.1", ListenPort: startServer(t, tcpserver.Echo), DialHost: "127.0.0.1", DialPort: 1}); err == nil ||
		!strings.Contains(err.Error(), "remote port forwarding failed for listen port") {
		t.Errorf("forward of a port that is in use: %v", err)
	}
	if err := control.CloseForward(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	// The master does not wait for the server's reply, but the server handles requests in order.
	c, err := control.OpenProxy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	again, err := net.Listen("tcp4", addr)
	if err != nil {
		t.Errorf("the server still listens: %v", err)
	} else {
		_ = again.Close()
	}
}
