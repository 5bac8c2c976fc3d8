package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/ssh/askpass"
	"github.com/localport-sh/localport/forwarder/ssh/wrapper"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/sshd"
)

func TestMain(m *testing.M) {
	askpass.Main()
	wrapper.Main()
	goleak.VerifyTestMain(m)
}

// logged is a log that can be read while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// run is a run with a short folder for its sockets.
func run(t *testing.T) forwarder.Run {
	t.Helper()
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("ssh is missing (Debian: openssh-client)")
	}
	dir, err := os.MkdirTemp("", "lp") //nolint:usetesting // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left, _ := filepath.Glob(dir + "/*"); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
		_ = os.RemoveAll(dir)
	})
	return forwarder.Run{Dir: t.TempDir(), Sockets: filepath.Join(dir, "1"), Env: os.Environ(), Log: &logged{}}
}

// drivers are those of tests that run.
var drivers sync.Map

// driverOf is the test's driver. It is closed after the tunnels that are opened from now on.
func driverOf(t *testing.T) *driver {
	t.Helper()
	made, known := drivers.LoadOrStore(t, newDriver(context.WithoutCancel(t.Context())))
	if !known {
		t.Cleanup(func() {
			drivers.Delete(t)
			_ = made.(*driver).Close()
		})
	}
	return made.(*driver)
}

// service is a forward to addr by way of the server.
func service(server *sshd.Server, addr string) project.Service {
	host, port, _ := net.SplitHostPort(addr)
	return project.Service{RemotePort: port, Connection: project.Connection{Settings: project.Settings{
		"host": server.Host, "port": server.Port, "user": server.User, "key_file": server.KeyFile, "config_file": server.ConfigFile,
		"remote_host": host,
	}}}
}

func open(t *testing.T, svc project.Service) *direct {
	t.Helper()
	return openIn(t, svc, run(t)).(*direct)
}

// openIn opens a tunnel of a project: services of the same run share what they can.
func openIn(t *testing.T, svc project.Service, r forwarder.Run) forwarder.Tunnel {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	opened, err := driverOf(t).Open(ctx, svc, r)
	if err != nil {
		t.Fatalf("%v\n%s", err, r.Log)
	}
	t.Cleanup(func() { _ = opened.Close() })
	return opened
}

// fails opens what cannot be opened.
func fails(t *testing.T, svc project.Service, in ...forwarder.Run) *forwarder.Failure {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tunnel, err := driverOf(t).Open(ctx, svc, append(in, run(t))[0])
	if err == nil {
		_ = tunnel.Close()
		t.Fatal("opened")
	}
	failure, ok := errors.AsType[*forwarder.Failure](err)
	if !ok {
		t.Fatalf("got %v, want a failure", err)
	}
	return failure
}

// backend greets every connection and then gives back what it gets.
func backend(t *testing.T) string {
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
				_, _ = conn.Write([]byte("welcome "))
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	return l.Addr().String()
}

// refusing is an address at which nothing listens.
func refusing(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", ports.Free(t))
}

func dial(t *testing.T, tunnel forwarder.Tunnel) *conn {
	t.Helper()
	c, err := tunnel.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*conn)
}

func welcome(t *testing.T, conn net.Conn) {
	t.Helper()
	got := make([]byte, len("welcome "))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "welcome " {
		t.Fatalf("read %q, %v", got, err)
	}
}

// refused dials what the far side refuses.
func refused(t *testing.T, tunnel forwarder.Tunnel) *forwarder.Refusal {
	t.Helper()
	conn, err := tunnel.Dial(t.Context())
	if err == nil {
		_ = conn.Close()
	}
	r, ok := errors.AsType[*forwarder.Refusal](err)
	if !ok {
		t.Fatalf("got %v, want a refusal", err)
	}
	return r
}

// ended returns why a tunnel ended.
func ended(t *testing.T, tunnel forwarder.Tunnel) *forwarder.Failure {
	t.Helper()
	select {
	case <-tunnel.Done():
	case <-time.After(15 * time.Second):
		t.Fatal("the tunnel did not end")
	}
	failure, ok := errors.AsType[*forwarder.Failure](tunnel.Err())
	if !ok {
		t.Fatalf("ended with %v, want a failure", tunnel.Err())
	}
	return failure
}

func transient(t *testing.T, f *forwarder.Failure, reason string) {
	t.Helper()
	if f.Class != forwarder.Transient || !strings.Contains(f.Reason, reason) {
		t.Errorf("class %v, reason %q; want transient, %q", f.Class, f.Reason, reason)
	}
}

func TestReadyTunnelCarriesBytesAndHalfCloses(t *testing.T) {
	tunnel := open(t, service(sshd.Start(t), backend(t)))
	for range 3 {
		conn := dial(t, tunnel)
		if _, err := conn.Write([]byte("back")); err != nil {
			t.Fatal(err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); err != nil || string(got) != "welcome back" {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if log := tunnel.master.run.Log.(*logged).String(); strings.Contains(log, "debug1") {
		t.Errorf("the log has debug lines:\n%s", log)
	}
	if err := tunnel.Close(); err != nil || tunnel.Err() != nil {
		t.Errorf("close: %v, %v", err, tunnel.Err())
	}
	if _, err := tunnel.Dial(t.Context()); err == nil {
		t.Error("dialled after close")
	}
}

func TestRemoteHostIsTheSSHHostsOwnWhereNoneIsNamed(t *testing.T) {
	svc := service(sshd.Start(t), backend(t))
	svc.Connection.Settings["remote_host"] = ""
	welcome(t, dial(t, open(t, svc)))
}

func TestIPv6RemoteHostIsUnderstood(t *testing.T) {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skipf("IPv6 is missing: %v", err)
	}
	defer l.Close()
	tunnel := open(t, service(sshd.Start(t), l.Addr().String()))
	conn := dial(t, tunnel)
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	if _, err := far.Write([]byte("welcome ")); err != nil {
		t.Fatal(err)
	}
	welcome(t, conn)
}

func TestARefusalIsItsConnectionsAloneWhileOthersGoOn(t *testing.T) {
	// A far end that takes one connection, so that a further one is refused while the first goes on.
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tunnel := open(t, service(sshd.Start(t), l.Addr().String()))
	first := dial(t, tunnel)
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	_ = l.Close()
	for range 5 {
		if r := refused(t, tunnel); !r.Connect || r.Reason != "open failed: connect failed: Connection refused" {
			t.Errorf("refusal %+v", r)
		}
	}
	if _, err := far.Write([]byte("welcome ")); err != nil {
		t.Fatal(err)
	}
	welcome(t, first)
	select {
	case <-tunnel.Done():
		t.Error("the refusals ended the tunnel")
	default:
	}
}

func TestEveryKindOfRefusalIsAFailedConnect(t *testing.T) {
	server := sshd.Start(t)
	for _, tt := range []struct{ addr, want string }{
		{refusing(t), "Connection refused"},
		{"no-such-host.invalid:80", "connect failed: "},
	} {
		tunnel := open(t, service(server, tt.addr))
		if r := refused(t, tunnel); !r.Connect || !strings.Contains(r.Reason, tt.want) {
			t.Errorf("%s: %+v", tt.addr, r)
		}
	}
	strict := server.Another("AllowTcpForwarding no")
	tunnel := open(t, service(strict, backend(t)))
	if r := refused(t, tunnel); !r.Connect || !strings.Contains(r.Reason, "administratively prohibited") {
		t.Errorf("not allowed: %+v", r)
	}
}

func TestThreeHundredConnectionsAtOnce(t *testing.T) {
	tunnel := open(t, service(sshd.Start(t), backend(t)))
	var all sync.WaitGroup
	for range 300 {
		all.Go(func() {
			conn, err := tunnel.Dial(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			got := make([]byte, 8)
			if _, err := io.ReadFull(conn, got); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestGivenUpOpenIsTheContexts(t *testing.T) {
	server := sshd.Start(t)
	server.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := driverOf(t).Open(ctx, service(server, "127.0.0.1:1"), run(t))
	if f, ok := errors.AsType[*forwarder.Failure](err); !ok || f.Reason != "ssh was not ready in time" {
		t.Errorf("late: %v", err)
	}
	given, giveUp := context.WithCancel(t.Context())
	giveUp()
	if _, err := driverOf(t).Open(given, service(server, "127.0.0.1:1"), run(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

func TestTargetNamesTheFarEnd(t *testing.T) {
	for want, c := range map[string]project.Settings{
		"ssh bastion → localhost:6379":             {"host": "bastion"},
		"ssh deploy@bastion → 10.0.0.5:6379":       {"host": "bastion", "user": "deploy", "remote_host": "10.0.0.5"},
		"ssh deploy@bastion:2222 → [fd00::1]:6379": {"host": "bastion", "user": "deploy", "port": 2222, "remote_host": "fd00::1"},
	} {
		if got := driverOf(t).Target(project.Service{RemotePort: "6379", Connection: project.Connection{Settings: c}}); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
