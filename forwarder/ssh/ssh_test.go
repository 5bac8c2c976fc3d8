package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
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
	"github.com/localport-sh/localport/testdata/syncbuf"
	"github.com/localport-sh/localport/testdata/tcpserver"
)

func TestMain(m *testing.M) {
	askpass.Main()
	wrapper.Main()
	goleak.VerifyTestMain(m)
}

// newRun returns a Run with a short socket directory, which must be empty in the end.
func newRun(t *testing.T) forwarder.Run {
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
	return forwarder.Run{Dir: t.TempDir(), SocketDir: filepath.Join(dir, "1"), Env: os.Environ(), Log: &syncbuf.Buffer{}}
}

// drivers holds the driver of each running test.
var drivers sync.Map

// driverOf returns the test's driver. It is closed after all tunnels opened by it.
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

// newService returns a service that forwards to addr through the server.
func newService(server *sshd.Server, addr string) project.Service {
	host, port, _ := net.SplitHostPort(addr)
	return project.Service{RemotePort: port, Connection: project.Connection{Settings: project.Settings{
		"host": server.Host, "port": server.Port, "user": server.User, "key_file": server.KeyFile, "config_file": server.ConfigFile,
		"remote_host": host,
	}}}
}

func openDirect(t *testing.T, svc project.Service) *directTunnel {
	t.Helper()
	return openTunnel(t, svc, newRun(t)).(*directTunnel)
}

// openTunnel opens a tunnel. Services with the same Run share masters.
func openTunnel(t *testing.T, svc project.Service, r forwarder.Run) forwarder.Tunnel {
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

// openFailure returns the failure of an open that must fail.
func openFailure(t *testing.T, svc project.Service, runs ...forwarder.Run) *forwarder.Failure {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tunnel, err := driverOf(t).Open(ctx, svc, append(runs, newRun(t))[0])
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

// startBackend starts a server that sends "welcome " to every client and then echoes.
func startBackend(t *testing.T) string {
	t.Helper()
	return tcpserver.Start(t, tcpserver.GreetAndEcho).String()
}

// unusedAddr returns an address on which nothing listens.
func unusedAddr(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", ports.FreePort(t))
}

func dialTunnel(t *testing.T, tunnel forwarder.Tunnel) *clientConn {
	t.Helper()
	c, err := tunnel.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*clientConn)
}

func requireWelcome(t *testing.T, conn net.Conn) {
	t.Helper()
	got := make([]byte, len("welcome "))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "welcome " {
		t.Fatalf("read %q, %v", got, err)
	}
}

// dialRefused returns the refusal of a dial that must be refused.
func dialRefused(t *testing.T, tunnel forwarder.Tunnel) *forwarder.Refusal {
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

func checkTransient(t *testing.T, f *forwarder.Failure, reason string) {
	t.Helper()
	if f.Class != forwarder.Transient || !strings.Contains(f.Reason, reason) {
		t.Errorf("class %v, reason %q; want transient, %q", f.Class, f.Reason, reason)
	}
}

func TestDriver_CancelledOpenReturnsContextError(t *testing.T) {
	server := sshd.Start(t)
	server.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := driverOf(t).Open(ctx, newService(server, "127.0.0.1:1"), newRun(t))
	if f, ok := errors.AsType[*forwarder.Failure](err); !ok || f.Reason != "ssh did not finish logging in before the timeout" {
		t.Errorf("after the deadline: %v", err)
	}
	canceledCtx, cancelOpen := context.WithCancel(t.Context())
	cancelOpen()
	if _, err := driverOf(t).Open(canceledCtx, newService(server, "127.0.0.1:1"), newRun(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestDriver_TargetNamesRemoteAddress(t *testing.T) {
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

func TestDriver_NeverAcceptsChangedHostKey(t *testing.T) {
	server := sshd.Start(t)
	server.NewHostKey()
	for _, check := range []string{"no", "ask", "accept-new"} {
		svc := newService(server, startBackend(t))
		svc.Connection.Settings["options"] = map[string]string{"StrictHostKeyChecking": check}
		r := newRun(t)
		r.AskSocket, _ = startAnswers(t, "yes", "yes")
		if f := openFailure(t, svc, r); f.Class != forwarder.Permanent || !strings.Contains(f.Reason, "HAS CHANGED") {
			t.Errorf("%s: %+v", check, f)
		}
	}
}

func TestDriver_CloseEndsPendingOpen(t *testing.T) {
	server := sshd.Start(t)
	server.Freeze()
	d := newDriver(t.Context())
	svc, r := newService(server, "127.0.0.1:1"), newRun(t)
	opened := make(chan error)
	go func() {
		_, err := d.Open(t.Context(), svc, r)
		opened <- err
	}()
	dest := d.destinationFor(newTunnelSpec(svc), r)
	for { // nothing reports when the master has been started
		dest.mu.Lock()
		isStarted := dest.master != nil
		dest.mu.Unlock()
		if isStarted {
			break
		}
		runtime.Gosched()
	}
	_ = d.Close()
	if err := <-opened; err == nil {
		t.Error("the tunnel was opened")
	}
}

func TestDriver_SharesNothingWithOtherDriver(t *testing.T) {
	server := sshd.Start(t)
	svc, r := newService(server, startBackend(t)), newRun(t)
	requireWelcome(t, dialTunnel(t, openTunnel(t, svc, r)))
	other := newDriver(context.WithoutCancel(t.Context()))
	tunnel, err := other.Open(t.Context(), svc, r)
	if err != nil {
		t.Fatal(err)
	}
	requireWelcome(t, dialTunnel(t, tunnel))
	_ = tunnel.Close()
	_ = other.Close()
	if n := countLogins(server); n != 2 {
		t.Errorf("%d logins", n)
	}
}
