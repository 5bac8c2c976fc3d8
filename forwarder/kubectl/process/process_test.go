package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
	"github.com/localport-sh/localport/testdata/fakekubectl"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/syncbuf"
	"github.com/localport-sh/localport/testdata/tcpserver"
	"github.com/localport-sh/localport/testdata/tunneltest"
)

func TestMain(m *testing.M) {
	if fakekubectl.IsKubectl() {
		os.Exit(fakekubectl.Main())
	}
	goleak.VerifyTestMain(m)
}

func newTestSpec() Spec {
	return Spec{Program: "kubectl", Port: "5432", Files: session.Source{}.ReadFiles(), ResourceRef: session.ResourceRef{
		Resource: "service/postgres", Location: session.Location{Context: "staging", Namespace: "default"},
	}}
}

func newRun(t *testing.T, k *fakekubectl.Kubectl) forwarder.Run {
	t.Helper()
	return forwarder.Run{Dir: t.TempDir(), Env: k.Env(), Log: &syncbuf.Buffer{}}
}

func openTunnel(t *testing.T, k *fakekubectl.Kubectl) *tunnel {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	opened, err := Open(ctx, newRun(t, k), newTestSpec())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = opened.Close() })
	return opened.(*tunnel)
}

// openExpectingFailure returns the failure of an Open that must fail.
func openExpectingFailure(t *testing.T, spec Spec, run forwarder.Run) *forwarder.Failure {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tunnel, err := Open(ctx, run, spec)
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

// closedAddr is an address on which nothing listens.
func closedAddr(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", ports.FreePort(t))
}

func dial(t *testing.T, tunnel forwarder.Tunnel) *net.TCPConn {
	t.Helper()
	conn, err := tunnel.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.TCPConn)
}

func expectBytes(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v; want %q", got, err, want)
	}
}

func expectEnd(t *testing.T, conn net.Conn) {
	t.Helper()
	if got, err := io.ReadAll(conn); len(got) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("got %q, %v; want the end", got, err)
	}
}

// takeRefusal returns a refusal that must have been delivered already.
func takeRefusal(t *testing.T, tunnel forwarder.Tunnel) forwarder.Refusal {
	t.Helper()
	select {
	case r := <-tunnel.Refusals():
		return r
	default:
		t.Fatal("no refusal was delivered before the end")
		return forwarder.Refusal{}
	}
}

func TestTunnel_CarriesBytesAndHalfCloses(t *testing.T) {
	k := fakekubectl.Install(t, fakekubectl.Script{Backend: tcpserver.Start(t, tcpserver.GreetAndEcho).String()})
	tunnel := openTunnel(t, k)
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
	if tunnel.Acknowledges() {
		t.Error("Acknowledges is true, but kubectl accepts before it connects to the pod")
	}
	if err := tunnel.Close(); err != nil || tunnel.Err() != nil {
		t.Errorf("close: %v, %v", err, tunnel.Err())
	}
}

func TestOpen_PassesTheExactArguments(t *testing.T) {
	k := fakekubectl.Install(t, fakekubectl.Script{Backend: tcpserver.Start(t, tcpserver.GreetAndEcho).String()})
	spec := newTestSpec()
	spec.Port = "http"
	spec.Kubeconfig = filepath.Join(k.Dir, "config")
	tunnel, err := Open(t.Context(), newRun(t, k), spec)
	if err != nil {
		t.Fatal(err)
	}
	_ = tunnel.Close()
	want := []string{
		"port-forward", "--address", "127.0.0.1", "--pod-running-timeout", "30s",
		"--kubeconfig", spec.Kubeconfig, "--context", "staging", "--namespace", "default",
		"--", "service/postgres", ":http",
	}
	if got := k.Starts(t)[0].Args; !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestOpen_RunsTheNamedProgram(t *testing.T) {
	k := fakekubectl.Install(t, fakekubectl.Script{Backend: tcpserver.Start(t, tcpserver.GreetAndEcho).String()})
	r := newRun(t, k)
	r.Env = append(r.Env, "PATH=/no/where")
	spec := newTestSpec()
	spec.Program = filepath.Join(k.Dir, "kubectl")
	tunnel, err := Open(t.Context(), r, spec)
	if err != nil {
		t.Fatal(err)
	}
	_ = tunnel.Close()
}

func TestOpen_MissingKubectlNamesThePATHSearched(t *testing.T) {
	r := newRun(t, fakekubectl.Install(t, fakekubectl.Script{}))
	r.Env = append(r.Env, "PATH=/no/where")
	f := openExpectingFailure(t, newTestSpec(), r)
	if f.Class != forwarder.NeedsUser || !strings.Contains(f.Reason, "/no/where") || !strings.Contains(f.Hint, "install") {
		t.Errorf("got %+v", f)
	}
}

func TestTunnel_ReportsARefusalBeforeItEnds(t *testing.T) {
	k := fakekubectl.Install(t, fakekubectl.Script{Backend: closedAddr(t)})
	tunnel := openTunnel(t, k)
	expectEnd(t, dial(t, tunnel))
	f := tunneltest.WaitFailure(t, tunnel)
	r := takeRefusal(t, tunnel)
	if !r.IsConnectFailure || r.Conn != nil || !strings.HasPrefix(r.Reason, "an error occurred forwarding ") {
		t.Errorf("refusal %+v", r)
	}
	if f.Class != forwarder.Transient || !strings.Contains(f.Reason, "connection refused") {
		t.Errorf("failure %+v", f)
	}
}

func TestTunnel_DeletedPodIsReportedAtTheNextConnection(t *testing.T) {
	k := fakekubectl.Install(t, fakekubectl.Script{Backend: tcpserver.Start(t, tcpserver.GreetAndEcho).String()})
	tunnel := openTunnel(t, k)
	old := dial(t, tunnel)
	expectBytes(t, old, "welcome ")
	k.DeletePod(t)
	expectEnd(t, old)
	select {
	case <-tunnel.Done():
		t.Fatal("kubectl noticed the deleted pod without a connection, which it never does")
	default:
	}
	expectEnd(t, dial(t, tunnel))
	f := tunneltest.WaitFailure(t, tunnel)
	if r := takeRefusal(t, tunnel); !r.IsConnectFailure || !strings.Contains(r.Reason, "network namespace for sandbox") {
		t.Errorf("refusal %+v", r)
	}
	if f.Class != forwarder.Transient {
		t.Errorf("failure %+v", f)
	}
}

func TestTunnel_EndsWhenKubectlCannotCreateStreams(t *testing.T) {
	k := fakekubectl.Install(t, fakekubectl.Script{StreamTimesOut: true})
	tunnel := openTunnel(t, k)
	expectEnd(t, dial(t, tunnel))
	if f := tunneltest.WaitFailure(t, tunnel); f.Class != forwarder.Transient || !strings.Contains(f.Reason, "Timeout occurred") {
		t.Errorf("failure %+v", f)
	}
}

func TestTunnel_EndsWhenKubectlIsKilled(t *testing.T) {
	tunnel := openTunnel(t, fakekubectl.Install(t, fakekubectl.Script{Backend: tcpserver.Start(t, tcpserver.GreetAndEcho).String()}))
	if err := syscall.Kill(tunnel.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if f := tunneltest.WaitFailure(t, tunnel); f.Class != forwarder.Transient || !strings.Contains(f.Reason, "killed") {
		t.Errorf("failure %+v", f)
	}
	if _, err := tunnel.Dial(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dial after the end: %v", err)
	}
}

func TestOpen_FailureQuotesKubectl(t *testing.T) {
	const message = `Error from server (NotFound): services "postgres" not found`
	k := fakekubectl.Install(t, fakekubectl.Script{StartError: message})
	r := newRun(t, k)
	f := openExpectingFailure(t, newTestSpec(), r)
	if f.Class != forwarder.Permanent || f.Reason != message {
		t.Errorf("got %+v", f)
	}
	if want := "kubectl get services -n default --context staging"; f.Hint != want {
		t.Errorf("hint %q, want %q", f.Hint, want)
	}
	if log := r.Log.(*syncbuf.Buffer).String(); log != message+"\n" {
		t.Errorf("log %q", log)
	}
}

func TestOpen_EndsWithItsContext(t *testing.T) {
	k := fakekubectl.Install(t, fakekubectl.Script{NeverReady: true})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := Open(ctx, newRun(t, k), newTestSpec())
	if f, ok := errors.AsType[*forwarder.Failure](err); !ok || f.Reason != "kubectl did not start listening in time" {
		t.Errorf("late: %v", err)
	}
	canceledCtx, cancelOpen := context.WithCancel(t.Context())
	cancelOpen()
	if _, err := Open(canceledCtx, newRun(t, k), newTestSpec()); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

// unreachableClusterConfig is a kubeconfig with a server that does not exist, and a user whose login helper does not exist.
const unreachableClusterConfig = `apiVersion: v1
kind: Config
current-context: dead
contexts:
- {name: dead, context: {cluster: dead, user: token}}
- {name: helper, context: {cluster: dead, user: helper}}
- {name: offline, context: {cluster: dead, user: offline}}
- {name: loggedout, context: {cluster: dead, user: loggedout}}
clusters:
- {name: dead, cluster: {server: "https://SERVER"}}
users:
- {name: token, user: {token: x}}
- name: helper
  user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: no-such-helper, interactiveMode: Never}}
- name: offline
  user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: sh, args: [-c, "echo 'dial tcp: lookup sso.example.com: no such host' >&2; exit 1"], interactiveMode: Never}}
- name: loggedout
  user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: sh, args: [-c, "echo 'run aws sso login' >&2; exit 1"], interactiveMode: Never}}
`

func TestOpen_ClassifiesFailuresOfRealKubectl(t *testing.T) {
	if _, err := exec.LookPath("kubectl"); err != nil {
		t.Skip("kubectl is missing")
	}
	server := closedAddr(t)
	config := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(config, []byte(strings.ReplaceAll(unreachableClusterConfig, "SERVER", server)), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		context, file string
		class         forwarder.Class
		reason, hint  string
	}{
		{"", config, forwarder.Transient, "The connection to the server " + server + " was refused", ""},
		{"nope", config, forwarder.Permanent, "nope", "contexts: dead, helper, loggedout, offline; "},
		{"helpr", config, forwarder.Permanent, "helpr", `did you mean "helper"? "kubectl config get-contexts --kubeconfig ` + config + `" lists all; `},
		{"helper", config, forwarder.NeedsUser, "the login helper failed: executable no-such-helper not found", "localport login"},
		{"offline", config, forwarder.Transient, "exit code 1: dial tcp: lookup sso.example.com: no such host", "check the network or VPN"},
		{"loggedout", config, forwarder.NeedsUser, "exit code 1: run aws sso login", "localport login"},
		{"", "/no/such/file", forwarder.Permanent, "/no/such/file", ""},
	}
	for _, tt := range tests {
		spec := newTestSpec()
		spec.Location.Context, spec.Kubeconfig = tt.context, tt.file
		spec.Files = session.Source{ResourceRef: spec.ResourceRef}.ReadFiles()
		r := forwarder.Run{Dir: t.TempDir(), Env: append(os.Environ(), "HOME="+t.TempDir()), Log: &syncbuf.Buffer{}}
		if f := openExpectingFailure(t, spec, r); f.Class != tt.class || !strings.Contains(f.Reason, tt.reason) || !strings.Contains(f.Hint, tt.hint) {
			t.Errorf("context %q, file %q: %+v\n%s", tt.context, tt.file, f, r.Log)
		}
	}
}
