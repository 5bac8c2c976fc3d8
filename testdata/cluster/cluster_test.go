package cluster

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(suite{m}) }

// suite runs the tests and stops the cluster that most of them share.
type suite struct{ m *testing.M }

func (t suite) Run() int {
	code := t.m.Run()
	if sharedStarted {
		if c, _ := startShared(); c != nil && c.Stop() != nil {
			code = 1
		}
	}
	return code
}

var (
	sharedStarted bool
	startShared   = sync.OnceValues(func() (*Cluster, error) {
		sharedStarted = true
		dir, err := os.MkdirTemp("", "lpk-")
		if err != nil {
			return nil, err
		}
		return Run(context.Background(), dir, io.Discard)
	})
)

// sharedCluster returns the cluster that tests share. It skips the test if no cluster can be run.
func sharedCluster(t *testing.T) *Cluster {
	t.Helper()
	if err := CheckAvailable(); err != nil {
		t.Skip(err)
	}
	c, err := startShared()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.programLogs())
		}
	})
	return c
}

// startPortForward starts the real `kubectl port-forward` to a pod or service, and returns the local address. It ends with the test.
func startPortForward(t *testing.T, c *Cluster, namespace, target, port string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "kubectl", "port-forward", "--namespace="+namespace, target, ":"+port)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // the context has ended it
	line, err := bufio.NewReader(out).ReadString('\n')
	found := regexp.MustCompile(`Forwarding from (\S+)`).FindStringSubmatch(line)
	if found == nil {
		t.Fatalf("kubectl port-forward: %q, %v", line, err)
	}
	return found[1]
}

// exchange sends text to an address, closes its direction of the connection, and returns everything that it receives.
func exchange(t *testing.T, address, text string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

func TestCluster_PodAnswersThroughForward(t *testing.T) {
	c := sharedCluster(t)
	namespace := c.Namespace(t)
	c.Deploy(t, Deployment{Name: "web", Namespace: namespace})
	pod := c.Pods(t, namespace, "app=web")[0]
	if got := exchange(t, startPortForward(t, c, namespace, "service/web", "7000"), "and back"); got != "hello "+pod+"\nand back" {
		t.Errorf("received %q", got)
	}
	if got := exchange(t, startPortForward(t, c, namespace, "pod/"+pod, "7001"), "echo"); got != "echo" {
		t.Errorf("echoed %q", got)
	}
	response, err := http.Get("http://" + startPortForward(t, c, namespace, "deployment/web", "8080") + "/bytes?n=100000")
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer response.Body.Close()
	if n, err := io.Copy(io.Discard, response.Body); n != 100000 || err != nil || len(response.Trailer.Get("X-Sha256")) != 64 {
		t.Errorf("%d bytes, trailer %v, %v", n, response.Trailer, err)
	}
}

func TestCluster_PodReadinessAndCrashAreControllable(t *testing.T) {
	c := sharedCluster(t)
	namespace := c.Namespace(t)
	c.Deploy(t, Deployment{
		Name: "late", Namespace: namespace, Args: []string{"-greet", ":7000", "-listen-delay", "100ms", "-ready-file", "/ready"},
		Readiness: execProbe("/echo", "ready", "/ready"),
	})
	pod := "pod/" + c.Pods(t, namespace, "app=late")[0]
	if got := exchange(t, startPortForward(t, c, namespace, pod, "7000"), ""); !strings.HasPrefix(got, "hello late-") {
		t.Errorf("received %q", got)
	}
	c.Apply(t, Deployment{Name: "short", Namespace: namespace, Args: []string{"-exit-after", "100ms"}, Readiness: "null"}.YAML())
	for _, condition := range []string{"create", "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CrashLoopBackOff"} {
		c.Kubectl(t, "wait", "pods", "--selector=app=short", "--namespace="+namespace, "--for="+condition, "--timeout=50s")
	}
}

func TestCluster_WaitReadyIgnoresTerminatingPods(t *testing.T) {
	c := sharedCluster(t)
	namespace := c.Namespace(t)
	c.Deploy(t, Deployment{Name: "web", Namespace: namespace, Replicas: 2})
	c.Kubectl(t, "scale", "deployment/web", "--namespace="+namespace, "--replicas=1")
	c.WaitReady(t, namespace, "app=web", 1)
	c.Kubectl(t, "scale", "deployment/web", "--namespace="+namespace, "--replicas=0")
	c.WaitReady(t, namespace, "app=web", 0)
	if pods := c.Pods(t, namespace, "app=web"); len(pods) > 0 {
		t.Errorf("pods %q are left", pods)
	}
}

func TestCluster_RunsRedisAndPostgresInPods(t *testing.T) {
	c := sharedCluster(t)
	namespace := c.Namespace(t)
	c.Deploy(t, Deployment{Name: "redis", Namespace: namespace, Image: Redis})
	c.Deploy(t, Deployment{Name: "postgres", Namespace: namespace, Image: Postgres})
	if got := exchange(t, startPortForward(t, c, namespace, "service/redis", "6379"), "PING\r\n"); got != "+PONG\r\n" {
		t.Errorf("redis answers %q", got)
	}
	db, err := pgx.Connect(t.Context(), "postgres://postgres@"+startPortForward(t, c, namespace, "service/postgres", "5432")+"/postgres")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(t.Context())
	var one int
	if err := db.QueryRow(t.Context(), "select 1").Scan(&one); err != nil || one != 1 {
		t.Errorf("select 1: %d, %v", one, err)
	}
}

func TestCluster_UserHasPermissionsOfRules(t *testing.T) {
	c := sharedCluster(t)
	namespace := c.Namespace(t)
	kubeconfig := c.User(t, "reader", namespace, `{apiGroups: [""], resources: [pods], verbs: [get, list]}`)
	for action, isAllowed := range map[string]bool{"list pods": true, "get pods": true, "create pods/portforward": false, "list services": false} {
		verb, resource, _ := strings.Cut(action, " ")
		cmd := exec.CommandContext(t.Context(), "kubectl", "--kubeconfig="+kubeconfig, "--namespace="+namespace, "auth", "can-i", verb, resource)
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
		if out, err := cmd.CombinedOutput(); (err == nil) != isAllowed {
			t.Errorf("%s: %s", action, out)
		}
	}
}

func TestCluster_RestartsKilledContainerInItsPod(t *testing.T) {
	c := sharedCluster(t)
	namespace := c.Namespace(t)
	c.Deploy(t, Deployment{Name: "web", Namespace: namespace})
	pod := c.Pods(t, namespace, "app=web")[0]
	c.KillContainer(t, namespace, pod)
	c.Kubectl(t, "wait", "pod/"+pod, "--namespace="+namespace, "--for=jsonpath={.status.containerStatuses[0].restartCount}=1", "--timeout=50s")
	c.WaitReady(t, namespace, "app=web", 1)
	if pods := c.Pods(t, namespace, "app=web"); len(pods) != 1 || pods[0] != pod {
		t.Errorf("pod %s became %q", pod, pods)
	}
}

func TestCluster_APIServerRestartsOnItsPort(t *testing.T) {
	c := sharedCluster(t)
	pid := c.APIServer.Pid()
	c.APIServer.Kill()
	if conn, err := net.Dial("tcp", strings.TrimPrefix(c.Server(), "https://")); err == nil {
		conn.Close()
		t.Error("the port of a killed API server accepts connections")
	}
	if err := c.APIServer.Start(); err != nil {
		t.Fatal(err)
	}
	if c.APIServer.Pid() == pid {
		t.Error("the API server has the same pid as before")
	}
	c.Kubectl(t, "get", "nodes")
}

func TestCluster_FrozenAPIServerIsSilentUntilThawed(t *testing.T) {
	c := sharedCluster(t)
	c.APIServer.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	cmd := exec.CommandContext(ctx, "kubectl", "get", "nodes")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig(), "HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	c.APIServer.Thaw()
	if err == nil || ctx.Err() == nil {
		t.Errorf("a frozen API server answers: %s", out)
	}
	c.Kubectl(t, "get", "nodes")
}

func TestCluster_NodeFollowsItsKubelet(t *testing.T) {
	c := sharedCluster(t)
	waitReadyStatus := func(status string) {
		t.Helper()
		c.Kubectl(t, "wait", "node/"+Node, "--for=condition=Ready="+status, "--timeout=50s")
	}
	c.Kubelet.Freeze()
	waitReadyStatus("Unknown")
	c.Kubelet.Thaw()
	waitReadyStatus("True")
	c.Kubelet.Kill()
	waitReadyStatus("Unknown")
	if err := c.Kubelet.Start(); err != nil {
		t.Fatal(err)
	}
	waitReadyStatus("True")
}

func TestCluster_PodsOutliveContainerd(t *testing.T) {
	c := sharedCluster(t)
	if c.Containerd == nil {
		t.Skip(c.standinReason)
	}
	namespace := c.Namespace(t)
	c.Deploy(t, Deployment{Name: "web", Namespace: namespace})
	c.Containerd.Kill()
	if err := c.Containerd.Start(); err != nil {
		t.Fatal(err)
	}
	c.Kubectl(t, "wait", "node/"+Node, "--for=condition=Ready=True", "--timeout=50s")
	c.WaitReady(t, namespace, "app=web", 1)
	restarts := c.Kubectl(t, "get", "pods", "--namespace="+namespace, "--output=jsonpath={.items[*].status.containerStatuses[0].restartCount}")
	if restarts != "0" {
		t.Errorf("%s restarts", restarts)
	}
}
