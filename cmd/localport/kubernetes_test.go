package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/testdata/cluster"
	"github.com/localport-sh/localport/testdata/ports"
)

// clusterProject is a project with a service in a real cluster.
type clusterProject struct {
	*testEnv
	*cluster.Cluster
	t    *testing.T
	ns   string
	root string
	addr string
}

// newClusterProject deploys a server that greets, and creates a project with a service for it.
func newClusterProject(t *testing.T, c *cluster.Cluster, connection string) *clusterProject {
	t.Helper()
	k := &clusterProject{testEnv: newTestEnv(t), Cluster: c, t: t, ns: c.Namespace(t)}
	k.env = append(k.env, "KUBECONFIG="+c.Kubeconfig())
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: k.ns, Replicas: 1})
	port := ports.FreePort(t)
	k.addr = fmt.Sprintf("127.0.0.1:%d", port)
	k.root = k.allowedProject(fmt.Sprintf("[services.web]\ntechnology = \"kubectl\"\nlocal_port = %d\nremote_port = \"greet\"\n"+
		"connection = { namespace = %q, %s }\n", port, k.ns, connection))
	return k
}

func (k *clusterProject) kubectl(args ...string) string {
	k.t.Helper()
	return k.Kubectl(k.t, append(args, "-n", k.ns)...)
}

// podReply is the result of a client of a pod, which greets with its name and then echoes.
type podReply struct {
	startTime time.Time
	took      time.Duration
	pod       string // that greeted
	err       error
	isCutOff  bool // the connection failed after the greeting
}

// askPod connects, waits for the greeting, sends a line and waits for its echo.
func askPod(addr string) (r podReply) {
	r.startTime = time.Now()
	defer func() { r.took = time.Since(r.startTime) }()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return podReply{startTime: r.startTime, err: err}
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(40 * time.Second))
	reader := bufio.NewReader(conn)
	line, err := reader.ReadString('\n')
	if err != nil {
		return podReply{startTime: r.startTime, err: err}
	}
	r.pod = strings.TrimSpace(strings.TrimPrefix(line, "hello "))
	_, err = io.WriteString(conn, "word\n")
	if err == nil {
		line, err = reader.ReadString('\n')
	}
	if err == nil && line != "word\n" {
		err = errors.New("got another line: " + line)
	}
	r.isCutOff, r.err = err != nil, err
	return r
}

// podClients are clients of a pod.
type podClients struct{ *clientStream[podReply] }

func startPodClients(interval time.Duration, addr string) podClients {
	return podClients{startClientStream(interval, func() podReply { return askPod(addr) })}
}

// isAnswered reports whether a client that started after t has succeeded.
func (c podClients) isAnswered(t time.Time) bool {
	return c.count(func(r podReply) bool { return r.startTime.After(t) && r.err == nil }) > 0
}

// podSummary counts clients. Those that were cut off are not among the failed ones.
type podSummary struct {
	all, failed, cutOff int
	longest             time.Duration
	err                 error // of one that failed
}

// stop stops the clients and summarizes their results.
func (c podClients) stop() (s podSummary) {
	for _, r := range c.clientStream.stop() {
		s.all++
		switch {
		case r.isCutOff:
			s.cutOff++
		case r.err != nil:
			s.failed++
			s.err = r.err
		}
		s.longest = max(s.longest, r.took)
	}
	return s
}

// portForward is a running "kubectl port-forward" to the service web, as a user would run it.
type portForward struct {
	cmd *exec.Cmd
	out *bufio.Reader
}

func startPortForward(t testing.TB, c *cluster.Cluster, home, namespace, port string) *portForward {
	t.Helper()
	cmd := exec.Command("kubectl", "port-forward", "-n", namespace, "service/web", ":"+port)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig(), "HOME="+home)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &portForward{cmd, bufio.NewReader(out)}
}

// waitAddr returns the address that kubectl prints when it listens.
func (p *portForward) waitAddr(t testing.TB) string {
	t.Helper()
	line, err := p.out.ReadString('\n')
	addr := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(line)
	if addr == "" {
		t.Fatalf("kubectl printed %q, %v", line, err)
	}
	go func() { _, _ = io.Copy(io.Discard, p.out) }()
	return addr
}

func (p *portForward) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// TestCluster_RefusesNobodyWhilePodsComeAndGo starts fifty clients a second while pods, nodes and servers fail. A client may fail only
// after it was greeted.
func TestCluster_RefusesNobodyWhilePodsComeAndGo(t *testing.T) {
	c := cluster.Start(t)
	ready := func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := c.WaitAPIServerReady(ctx); err != nil {
			t.Error(err)
		}
	}
	for _, event := range []struct {
		name   string
		happen func(k *clusterProject)
	}{
		{"deployment restarted", func(k *clusterProject) {
			old := k.Pods(k.t, k.ns, "app=web")[0]
			k.kubectl("rollout", "restart", "deployment/web")
			k.kubectl("wait", "--for=delete", "pod/"+old, "--timeout=30s")
		}},
		{"pod deleted", func(k *clusterProject) {
			k.kubectl("delete", "pod", "-l", "app=web") // and wait until it is deleted
		}},
		{"pod killed at once", func(k *clusterProject) {
			old := k.Pods(k.t, k.ns, "app=web")[0]
			k.kubectl("delete", "pod", old, "--grace-period=0", "--force")
		}},
		{"scaled to zero and back", func(k *clusterProject) {
			k.kubectl("scale", "deployment/web", "--replicas=0")
			k.kubectl("wait", "--for=delete", "pod", "-l", "app=web", "--timeout=20s")
			eventually(k.t, "status reports that there is no pod", func() bool {
				svc := k.service(k.root, "web")
				return svc.State == forwarder.Unhealthy && strings.Contains(svc.LastError, "has no pods")
			})
			k.kubectl("scale", "deployment/web", "--replicas=1")
			eventually(k.t, "the log reports it too", func() bool {
				out := k.mustRun(k.root, "logs")
				return strings.Contains(out, "waiting: service/web has no pods") && strings.Contains(out, "forwarding to port 7000 of pod web-")
			})
		}},
		{"container crashed", func(k *clusterProject) {
			k.KillContainer(k.t, k.ns, k.Pods(k.t, k.ns, "app=web")[0])
		}},
		{"service re-pointed", func(k *clusterProject) {
			k.Deploy(k.t, cluster.Deployment{Name: "other", Namespace: k.ns, Replicas: 1})
			k.kubectl("patch", "service", "web", "-p", `{"spec": {"selector": {"app": "other"}}}`)
			k.kubectl("delete", "deployment", "web")
			k.kubectl("wait", "--for=delete", "pod", "-l", "app=web", "--timeout=30s")
		}},
		{"kubelet killed and restarted", func(k *clusterProject) {
			k.Kubelet.Kill()
			wait.Sleep(context.Background(), 2*time.Second) // the outage
			if err := k.Kubelet.Start(); err != nil {
				k.t.Error(err)
			}
		}},
		{"API server restarted", func(k *clusterProject) {
			k.APIServer.Kill()
			if err := k.APIServer.Start(); err != nil {
				k.t.Error(err)
			}
			ready()
		}},
		{"API server frozen", func(k *clusterProject) {
			k.APIServer.Freeze()
			eventually(k.t, "status reports that the server does not answer", func() bool {
				svc := k.service(k.root, "web")
				return svc.State == forwarder.Unhealthy && strings.Contains(svc.LastError, "does not answer")
			})
			k.APIServer.Thaw()
		}},
	} {
		t.Run(event.name, func(t *testing.T) {
			k := newClusterProject(t, c, `resource_name = "web"`)
			k.mustRun(k.root, "start")
			kubectl := startPortForward(t, c, k.home, k.ns, "7000")
			t.Cleanup(kubectl.kill)
			clients, kubectlClients := startPodClients(clientInterval, k.addr), startPodClients(clientInterval, kubectl.waitAddr(t))
			firstTime := time.Now()
			eventually(t, "the first clients are answered", func() bool { return clients.isAnswered(firstTime) })
			startTime := time.Now()
			event.happen(k)
			endTime := time.Now()
			eventually(t, "clients are answered again", func() bool { return clients.isAnswered(endTime) })
			ours, theirs := clients.stop(), kubectlClients.stop()
			t.Logf("%s (%.1f s): localport: %d of %d failed, %d cut off, the longest took %.1f s; kubectl port-forward: %d failed, %d cut off",
				event.name, endTime.Sub(startTime).Seconds(), ours.failed, ours.all, ours.cutOff, ours.longest.Seconds(), theirs.failed, theirs.cutOff)
			if ours.failed > 0 {
				t.Errorf("%d of %d clients failed: %v\n%s", ours.failed, ours.all, ours.err, k.mustRun(k.root, "logs"))
			}
			if errors.Is(ours.err, syscall.ECONNREFUSED) {
				t.Error("the port was closed")
			}
		})
	}
}

// TestCluster_UsesAPodThatServesAndIsNeverReady: exec need not wait for a readiness that never comes.
func TestCluster_UsesAPodThatServesAndIsNeverReady(t *testing.T) {
	c := cluster.Start(t)
	k := newClusterProject(t, c, `resource_name = "web"`)
	k.kubectl("delete", "deployment", "web")
	k.kubectl("wait", "--for=delete", "pod", "-l", "app=web", "--timeout=30s")
	c.Apply(t, cluster.Deployment{Name: "web", Namespace: k.ns, Readiness: `{exec: {command: ["/echo", "ready", "127.0.0.1:9"]}, periodSeconds: 1}`}.YAML())
	k.mustRun(k.root, "exec", "--wait", "30s", "--", "true")
	k.mustRun(k.root, "start")
	if r := askPod(k.addr); r.err != nil {
		t.Errorf("the pod does not answer: %v", r.err)
	}
	svc := k.service(k.root, "web")
	if svc.State != forwarder.Healthy || svc.LastError != "" || !strings.Contains(svc.Hint, "is Running, but not Ready") {
		t.Errorf("status: %s, %q, hint %q", svc.State, svc.LastError, svc.Hint)
	}
	if out := k.mustRun(k.root, "status"); !strings.Contains(out, "but not Ready") {
		t.Errorf("status prints %s", out)
	}
	k.Deploy(t, cluster.Deployment{Name: "other", Namespace: k.ns})
	k.kubectl("patch", "service", "web", "-p", `{"spec": {"selector": {"app": "other"}}}`)
	eventually(t, "the Ready pod is used", func() bool { return strings.HasPrefix(askPod(k.addr).pod, "other-") })
	eventually(t, "status tells nothing any more", func() bool { svc := k.service(k.root, "web"); return svc.State == forwarder.Healthy && svc.Hint == "" })
}

// TestKubectlEngine_RecoversInAClusterAsFarAsKubectlCan runs the engine "kubectl", whose process exits in faults that the native engine
// survives.
func TestKubectlEngine_RecoversInAClusterAsFarAsKubectlCan(t *testing.T) {
	c := cluster.Start(t)
	k := newClusterProject(t, c, `resource_name = "web", engine = "kubectl"`)
	k.mustRun(k.root, "start")
	clients := startPodClients(100*time.Millisecond, k.addr) // a busy machine does not let more through kubectl
	firstTime := time.Now()
	eventually(t, "the first clients are answered", func() bool { return clients.isAnswered(firstTime) })
	k.kubectl("delete", "pod", "-l", "app=web")
	deleteTime := time.Now()
	eventually(t, "clients are answered by the pod's replacement", func() bool { return clients.isAnswered(deleteTime) })
	c.APIServer.Kill()
	if err := c.APIServer.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.WaitAPIServerReady(ctx); err != nil {
		t.Fatal(err)
	}
	restartTime := time.Now()
	eventually(t, "clients are answered after the server's restart", func() bool { return clients.isAnswered(restartTime) })
	s := clients.stop()
	t.Logf("%d of %d failed, %d cut off, the longest took %.1f s", s.failed, s.all, s.cutOff, s.longest.Seconds())
	if s.failed > 0 {
		t.Errorf("%d of %d clients failed: %v\n%s", s.failed, s.all, s.err, k.mustRun(k.root, "logs"))
	}
	if one := k.service(k.root, "web"); one.Restarts == 0 {
		t.Error("kubectl was never restarted: was it used at all?")
	}
}
