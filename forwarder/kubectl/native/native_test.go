package native

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
	"github.com/localport-sh/localport/forwarder/tasks"
	"github.com/localport-sh/localport/testdata/cluster"
)

// shared is the cluster of this package's tests, started by the first that wants one.
var shared struct {
	sync.Once
	*cluster.Cluster
	done func() // with its turn
	err  error
}

// What the tunnels of a driver share; here that of all tests.
var (
	working  = tasks.New(context.Background())
	sessions = session.NewShared(working)
	reserve  = NewReserve()
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(stopping{m})
}

type stopping struct{ m *testing.M }

func (s stopping) Run() int {
	code := s.m.Run()
	working.Close()
	if shared.Cluster != nil {
		if err := shared.Stop(); err != nil {
			code = 1
		}
		shared.done()
	}
	return code
}

// theCluster is the shared cluster. A test that harms it heals it.
func theCluster(t testing.TB) *cluster.Cluster {
	t.Helper()
	if err := cluster.Possible(); err != nil {
		t.Skip(err)
	}
	shared.Do(func() {
		if shared.done, shared.err = cluster.Turn(t.Context()); shared.err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		dir, err := os.MkdirTemp("", "lpk") //nolint:usetesting // it outlives the test
		if err != nil {
			shared.err = err
			return
		}
		shared.Cluster, shared.err = cluster.Run(ctx, dir, io.Discard)
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.Cluster
}

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

// to is a forward's specification, as text: "service/web:greet".
func to(target, namespace string) Spec {
	resource, port, _ := strings.Cut(target, ":")
	kind, name, _ := strings.Cut(resource, "/")
	spec := Spec{Target: Target{Type: kind, Name: name, Port: port}, Watched: true}
	spec.Words = session.Words{Resource: spec.Resource(), Place: session.Place{Context: "test", Namespace: namespace}}
	return spec
}

func runWith(t testing.TB, kubeconfig string) forwarder.Run {
	return forwarder.Run{Dir: t.TempDir(), Env: append(os.Environ(), "KUBECONFIG="+kubeconfig), Log: &logged{}}
}

func openWith(ctx context.Context, run forwarder.Run, spec Spec) (forwarder.Tunnel, error) {
	var err error
	spec.Tasks, spec.Reserve = working, reserve
	spec.Session, spec.Release, err = sessions.Open(session.Source{Words: spec.Words, Dir: run.Dir, Env: run.Env, Log: run.Log, Asked: run.Asked})
	if err != nil {
		return nil, err
	}
	return Open(ctx, run, spec)
}

// open opens a tunnel and closes it with the test.
func open(t testing.TB, kubeconfig string, spec Spec) *tunnel {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	opened, err := openWith(ctx, runWith(t, kubeconfig), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = opened.Close() })
	return opened.(*tunnel)
}

// fails opens what cannot be opened.
func fails(t testing.TB, kubeconfig string, spec Spec) *forwarder.Failure {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	opened, err := openWith(ctx, runWith(t, kubeconfig), spec)
	if err == nil {
		_ = opened.Close()
		t.Fatal("opened")
	}
	failure, ok := errors.AsType[*forwarder.Failure](err)
	if !ok {
		t.Fatalf("got %v, want a failure", err)
	}
	return failure
}

func dial(t testing.TB, tunnel forwarder.Tunnel) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := tunnel.Dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c
}

// greeting reads the name of the pod that answers.
func greeting(t testing.TB, c net.Conn) string {
	t.Helper()
	line, err := bufio.NewReader(c).ReadString('\n')
	name, ok := strings.CutPrefix(strings.TrimSpace(line), "hello ")
	if !ok {
		t.Fatalf("read %q, %v", line, err)
	}
	return name
}

func TestEveryTargetLeadsToItsPod(t *testing.T) {
	c := theCluster(t)
	ns := c.Namespace(t)
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns, Replicas: 1})
	pod := c.Pods(t, ns, "app=web")[0]
	replicas := strings.TrimSpace(c.Kubectl(t, "get", "replicasets", "-n", ns, "-o", "jsonpath={.items[0].metadata.name}"))
	for _, target := range []string{
		"service/web:greet", "service/web:7000", "deployment/web:7000", "replicaset/" + replicas + ":7000", "pod/" + pod + ":7000",
	} {
		tunnel := open(t, c.Kubeconfig(), to(target, ns))
		if got := greeting(t, dial(t, tunnel)); got != pod {
			t.Errorf("%s: %q", target, got)
		}
	}
	bySelector := to("", ns)
	bySelector.Target = Target{Selector: "app in (web, other)", Port: "7000"}
	if got := greeting(t, dial(t, open(t, c.Kubeconfig(), bySelector))); got != pod {
		t.Errorf("by a selector: %q", got)
	}
	for _, target := range []string{"service/web:http", "service/web:80", "deployment/web:http"} { // targetPort and the pod's port are names
		conn := dial(t, open(t, c.Kubeconfig(), to(target, ns)))
		_, _ = io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
		if answer, err := io.ReadAll(conn); err != nil || !strings.Contains(string(answer), pod) {
			t.Errorf("%s: %q, %v", target, answer, err)
		}
	}
}
