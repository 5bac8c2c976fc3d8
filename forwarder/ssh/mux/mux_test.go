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
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// master starts a real ssh master and returns a control of it.
func master(t testing.TB, server *sshd.Server) (*Control, *process.Child) {
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
		t.Fatalf("ssh ended: %v", ssh.LastLines())
	}
	control, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = control.Close() })
	return control, ssh
}

// connect is a connection for channels through a master of its own.
func connect(t testing.TB, server *sshd.Server) *Conn {
	t.Helper()
	control, _ := master(t, server)
	conn, err := control.Proxy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// serve is a server that answers each connection by f; its port is returned.
func serve(t testing.TB, f func(*net.TCPConn)) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				f(conn.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	return l.Addr().(*net.TCPAddr).Port
}

func echo(conn *net.TCPConn) { _, _ = io.Copy(conn, conn) }

func open(t testing.TB, c *Conn, port int) *Stream {
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

// none fails the test if any stream is left.
func none(t *testing.T, c *Conn) {
	t.Helper()
	if err := c.Ping(t.Context()); err != nil { // what came before its answer has been dealt with
		t.Fatal(err)
	}
	if n := c.Streams(); n != 0 {
		t.Errorf("%d streams are left", n)
	}
}

func TestBytesAndTheirEndsGoBothWays(t *testing.T) {
	c := connect(t, sshd.Start(t))
	for range 3 {
		s := open(t, c, serve(t, func(conn *net.TCPConn) {
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
		if err := s.WaitEnd(); err != nil || s.Broken() {
			t.Errorf("its end: %v, broken %v", err, s.Broken())
		}
	}
	none(t, c)
}

func TestTheFarEndMayFinishFirst(t *testing.T) {
	c := connect(t, sshd.Start(t))
	rest := make(chan string, 1)
	s := open(t, c, serve(t, func(conn *net.TCPConn) {
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

func TestARefusalHasTheServersReasonAndHarmsNobody(t *testing.T) {
	server := sshd.Start(t, "PermitOpen 127.0.0.1:* no-such-host.invalid:*")
	c := connect(t, server)
	s := open(t, c, serve(t, echo))
	for _, tt := range []struct {
		host string
		port int
		code uint32
		want string
	}{
		{"127.0.0.1", 1, ConnectFailed, "open failed: connect failed: Connection refused"},
		{"no-such-host.invalid", 80, ConnectFailed, "open failed: connect failed"},
		{"::1", 80, Prohibited, "open failed: administratively prohibited: open failed"},
	} {
		_, err := c.Open(t.Context(), tt.host, tt.port)
		refused, ok := errors.AsType[*Refused](err)
		if !ok || refused.Code != tt.code || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.host, err)
		}
	}
	if _, err := s.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if b, err := s.Next(); err != nil || string(b) != "x" {
		t.Errorf("got %q, %v", b, err)
	}
	if n := c.Refusals(); n != 3 {
		t.Errorf("%d refusals", n)
	}
}

func TestAPingAsksTheServerItself(t *testing.T) {
	server := sshd.Start(t)
	c := connect(t, server)
	if err := c.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := c.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a frozen server answered: %v", err)
	}
}

func TestMuchGoesThroughUnchanged(t *testing.T) {
	muchGoesThrough(t, sshd.Start(t), 64<<20)
}

func TestNewKeysOnTheWayChangeNothing(t *testing.T) {
	muchGoesThrough(t, sshd.Start(t, "RekeyLimit 1M"), 3<<20)
}

func muchGoesThrough(t *testing.T, server *sshd.Server, size int64) {
	t.Helper()
	c := connect(t, server)
	want := sha256.New()
	s := open(t, c, serve(t, echo))
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
		t.Errorf("%d bytes came back, %v", n, err)
	}
}

func TestAClientThatDoesNotReadHoldsUpNobodyElse(t *testing.T) {
	c := connect(t, sshd.Start(t))
	endless := serve(t, func(conn *net.TCPConn) {
		block := make([]byte, 64<<10)
		for {
			if _, err := conn.Write(block); err != nil {
				return
			}
		}
	})
	slow := open(t, c, endless)
	other := open(t, c, serve(t, echo))
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
	if held > firstWindow {
		t.Errorf("%d bytes wait", held)
	}
	_ = slow.Close()
	if _, err := slow.Next(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestManyAtOnceOpenAndGo(t *testing.T) {
	c := connect(t, sshd.Start(t))
	port := serve(t, echo)
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
	none(t, c)
}

func TestStreamsBreakWithTheMaster(t *testing.T) {
	server := sshd.Start(t)
	control, ssh := master(t, server)
	c, err := control.Proxy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, last := open(t, c, serve(t, echo)), open(t, c, serve(t, func(conn *net.TCPConn) { _, _ = conn.Write([]byte("bye")) }))
	if got, err := io.ReadAll(last); err != nil || string(got) != "bye" {
		t.Errorf("got %q, %v", got, err)
	}
	ssh.Kill()
	if _, err := s.Next(); !errors.Is(err, io.EOF) || !s.Broken() {
		t.Errorf("got %v, broken %v", err, s.Broken())
	}
	if err := last.WaitEnd(); err != nil || last.Broken() { // whoever has all of it is to see no reset
		t.Errorf("what the far side had ended: %v, broken %v", err, last.Broken())
	}
	<-c.Done()
	if !errors.Is(c.Err(), ErrGone) {
		t.Errorf("ended with %v", c.Err())
	}
	if _, err := c.Open(t.Context(), "127.0.0.1", 1); !errors.Is(err, ErrGone) {
		t.Errorf("opened: %v", err)
	}
}

func TestAMasterThatListensToNobodyElseEndsWithUs(t *testing.T) {
	server := sshd.Start(t)
	control, ssh := master(t, server)
	if err := control.StopListening(t.Context()); err != nil {
		t.Fatal(err)
	}
	path := control.socket.RemoteAddr().String()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("its socket is still there: %v", err)
	}
	c, err := control.Proxy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = open(t, c, serve(t, echo)).Close()
	_ = c.Close()
	<-ssh.Done()
}

func TestTheFarSideListensForUsUntilItIsCancelled(t *testing.T) {
	control, _ := master(t, sshd.Start(t))
	far := ports.Free(t)
	addr := fmt.Sprintf("127.0.0.1:%d", far)
	f := Forward{Listen: "127.0.0.1", ListenPort: far, To: "127.0.0.1", ToPort: serve(t, echo)}
	if err := control.Forward(t.Context(), f); err != nil {
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
	if err := control.Forward(t.Context(), Forward{Listen: "127.0.0.1", ListenPort: serve(t, echo), To: "127.0.0.1", ToPort: 1}); err == nil ||
		!strings.Contains(err.Error(), "remote port forwarding failed for listen port") {
		t.Errorf("a port that is taken: %v", err)
	}
	if err := control.Cancel(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	// The master does not wait for the far side, which takes one thing after the other.
	c, err := control.Proxy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	again, err := net.Listen("tcp4", addr)
	if err != nil {
		t.Errorf("the far side still listens: %v", err)
	} else {
		_ = again.Close()
	}
}
