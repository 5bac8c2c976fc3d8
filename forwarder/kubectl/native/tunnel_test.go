package native

import (
	"bufio"
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
	"github.com/localport-sh/localport/testdata/syncbuf"
)

// testCluster is the cluster of this package's tests, started by the first test that needs it.
var testCluster struct {
	sync.Once
	*cluster.Cluster
	done func() // lets the next package start a cluster
	err  error
}

// What the tunnels of a driver share, here for all tests.
var (
	testTasks    = tasks.New(context.Background())
	testRegistry = session.NewRegistry(testTasks)
	testReserve  = NewBufferReserve()
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(clusterStopper{m})
}

type clusterStopper struct{ m *testing.M }

func (s clusterStopper) Run() int {
	code := s.m.Run()
	testTasks.Close()
	if testCluster.Cluster != nil {
		if err := testCluster.Stop(); err != nil {
			code = 1
		}
		testCluster.done()
	}
	return code
}

// startCluster returns the shared cluster. A test that damages it must repair it.
func startCluster(t testing.TB) *cluster.Cluster {
	t.Helper()
	if err := cluster.CheckAvailable(); err != nil {
		t.Skip(err)
	}
	testCluster.Do(func() {
		if testCluster.done, testCluster.err = cluster.AcquireLock(t.Context()); testCluster.err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		dir, err := os.MkdirTemp("", "lpk") //nolint:usetesting // it outlives the test
		if err != nil {
			testCluster.err = err
			return
		}
		testCluster.Cluster, testCluster.err = cluster.Run(ctx, dir, io.Discard)
	})
	if testCluster.err != nil {
		t.Fatal(testCluster.err)
	}
	return testCluster.Cluster
}

// specFor makes the spec of a target in the form "service/web:greet".
func specFor(target, namespace string) Spec {
	resource, port, _ := strings.Cut(target, ":")
	kind, name, _ := strings.Cut(resource, "/")
	spec := Spec{Target: Target{Type: kind, Name: name, Port: port}, ClusterHealth: true}
	spec.Ref = session.ResourceRef{Resource: spec.Resource(), Location: session.Location{Context: "test", Namespace: namespace}}
	return spec
}

func newRun(t testing.TB, kubeconfig string) forwarder.Run {
	return forwarder.Run{Dir: t.TempDir(), Env: append(os.Environ(), "KUBECONFIG="+kubeconfig), Log: &syncbuf.Buffer{}}
}

func openSpec(ctx context.Context, run forwarder.Run, spec Spec) (forwarder.Tunnel, error) {
	var err error
	spec.Tasks, spec.Reserve = testTasks, testReserve
	src := session.Source{ResourceRef: spec.Ref, Dir: run.Dir, Env: run.Env, Log: run.Log, OutdatedBefore: run.RequestedAt}
	spec.Files = src.ReadFiles()
	spec.Session, spec.Release, err = testRegistry.Open(src)
	if err != nil {
		return nil, err
	}
	return Open(ctx, run, spec)
}

// openTunnel opens a tunnel, and closes it at the end of the test.
func openTunnel(t testing.TB, kubeconfig string, spec Spec) *tunnel {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	opened, err := openSpec(ctx, newRun(t, kubeconfig), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = opened.Close() })
	return opened.(*tunnel)
}

// openExpectingFailure returns the failure of an Open that must fail.
func openExpectingFailure(t testing.TB, kubeconfig string, spec Spec) *forwarder.Failure {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	opened, err := openSpec(ctx, newRun(t, kubeconfig), spec)
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

// readGreeting reads the pod's name from its greeting.
func readGreeting(t testing.TB, c net.Conn) string {
	t.Helper()
	line, err := bufio.NewReader(c).ReadString('\n')
	name, ok := strings.CutPrefix(strings.TrimSpace(line), "hello ")
	if !ok {
		t.Fatalf("read %q, %v", line, err)
	}
	return name
}

func TestTunnel_EveryTargetReachesItsPod(t *testing.T) {
	c := startCluster(t)
	ns := c.Namespace(t)
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns, Replicas: 1})
	pod := c.Pods(t, ns, "app=web")[0]
	replicas := strings.TrimSpace(c.Kubectl(t, "get", "replicasets", "-n", ns, "-o", "jsonpath={.items[0].metadata.name}"))
	for _, target := range []string{
		"service/web:greet", "service/web:7000", "deployment/web:7000", "replicaset/" + replicas + ":7000", "pod/" + pod + ":7000",
	} {
		tunnel := openTunnel(t, c.Kubeconfig(), specFor(target, ns))
		if got := readGreeting(t, dial(t, tunnel)); got != pod {
			t.Errorf("%s: %q", target, got)
		}
	}
	bySelector := specFor("", ns)
	bySelector.Target = Target{Selector: "app in (web, other)", Port: "7000"}
	if got := readGreeting(t, dial(t, openTunnel(t, c.Kubeconfig(), bySelector))); got != pod {
		t.Errorf("by a selector: %q", got)
	}
	for _, target := range []string{"service/web:http", "service/web:80", "deployment/web:http"} { // named targetPort, named port of the pod
		conn := dial(t, openTunnel(t, c.Kubeconfig(), specFor(target, ns)))
		_, _ = io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
		if answer, err := io.ReadAll(conn); err != nil || !strings.Contains(string(answer), pod) {
			t.Errorf("%s: %q, %v", target, answer, err)
		}
	}
}

// A warm upstream that is older than the failure, and that nobody uses, must not hide that connections are possible again.
func TestTunnel_DialFailureEndsAlthoughAnUpstreamIsWarm(t *testing.T) {
	c := startCluster(t)
	ns := c.Namespace(t)
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns})
	tunnel := openTunnel(t, c.Kubeconfig(), specFor("service/web:7000", ns))
	waitUntilWarm(t, tunnel)
	dest, _, _, _ := tunnel.finder.choosePod()
	if dest == nil {
		t.Fatal("there is no pod")
	}
	tunnel.recordDialResult(*dest, &session.StatusError{Code: 401, Message: "You must be logged in to the server"})
	limit := time.After(20 * time.Second)
	for tunnel.CurrentFailure() != nil {
		select {
		case <-tunnel.FailureChanged():
		case <-limit:
			t.Fatalf("20 s later: %+v", tunnel.CurrentFailure())
		}
	}
}
