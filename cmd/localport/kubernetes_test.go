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
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/testdata/cluster"
	"github.com/localport-sh/localport/testdata/ports"
)

// kube is a project with a service in a real cluster, and clients that come to it.
type kube struct {
	*world
	*cluster.Cluster
	t    *testing.T
	ns   string
	root string
	addr string
}

// intoCluster is a project whose service leads to a deployment's greeting.
func intoCluster(t *testing.T, c *cluster.Cluster, connection string) *kube {
	t.Helper()
	k := &kube{world: newWorld(t), Cluster: c, t: t, ns: c.Namespace(t)}
	k.env = append(k.env, "KUBECONFIG="+c.Kubeconfig())
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: k.ns, Replicas: 1})
	port := ports.FreePort(t)
	k.addr = fmt.Sprintf("127.0.0.1:%d", port)
	k.root = k.allowedProject(fmt.Sprintf("[services.web]\ntechnology = \"kubectl\"\nlocal_port = %d\nremote_port = \"greet\"\n"+
		"connection = { namespace = %q, %s }\n", port, k.ns, connection))
	return k
}

func (k *kube) kubectl(args ...string) string {
	k.t.Helper()
	return k.Kubectl(k.t, append(args, "-n", k.ns)...)
}

// visitors are clients that come one by one at a pace: each waits to be greeted, says a word and hears it again.
type visitors struct {
	addr string
	quit chan struct{}
	done sync.WaitGroup

	mu     sync.Mutex
	visits []visit
}

type visit struct {
	began  time.Time
	took   time.Duration
	pod    string // that greeted
	err    error
	cutOff bool // after the greeting
}

const fiftyASecond = 20 * time.Millisecond

func comeTo(addr string, every time.Duration) *visitors {
	v := &visitors{addr: addr, quit: make(chan struct{})}
	v.done.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-v.quit:
				return
			case <-tick.C:
				v.done.Go(func() {
					one := callOn(v.addr)
					v.mu.Lock()
					defer v.mu.Unlock()
					v.visits = append(v.visits, one)
				})
			}
		}
	})
	return v
}

func callOn(addr string) (v visit) {
	v.began = time.Now()
	defer func() { v.took = time.Since(v.began) }()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return visit{began: v.began, err: err}
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(40 * time.Second))
	reader := bufio.NewReader(conn)
	line, err := reader.ReadString('\n')
	if err != nil {
		return visit{began: v.began, err: err}
	}
	v.pod = strings.TrimSpace(strings.TrimPrefix(line, "hello "))
	_, err = io.WriteString(conn, "word\n")
	if err == nil {
		line, err = reader.ReadString('\n')
	}
	if err == nil && line != "word\n" {
		err = errors.New("got another word: " + line)
	}
	v.cutOff, v.err = err != nil, err
	return v
}

// since is whether a visitor who came after a moment was greeted.
func (v *visitors) greeted(after time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, one := range v.visits {
		if one.began.After(after) && one.err == nil {
			return true
		}
	}
	return false
}

// leave has no more visitors come, waits for those who are there, and tells how it went.
func (v *visitors) leave() (all, failed, cutOff int, longest time.Duration, why error) {
	close(v.quit)
	v.done.Wait()
	for _, one := range v.visits {
		switch {
		case one.cutOff:
			cutOff++
		case one.err != nil:
			failed++
			why = one.err
		}
		longest = max(longest, one.took)
	}
	return len(v.visits), failed, cutOff, longest, why
}

// bareKubectl is kubectl port-forward to the same service, as a user would run it.
func (k *kube) bareKubectl() (addr string) {
	k.t.Helper()
	cmd := exec.Command("kubectl", "port-forward", "-n", k.ns, "service/web", ":7000")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+k.Kubeconfig(), "HOME="+k.home)
	out, err := cmd.StdoutPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	match := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(line)
	if match == "" {
		k.t.Fatalf("kubectl said %q, %v", line, err)
	}
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	return match
}

// TestCluster_RefusesNobodyWhilePodsComeAndGo lets fifty clients a second come while pods, nodes and servers go. Nobody may fail who
// has not been greeted yet.
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
		happen func(k *kube)
	}{
		{"deployment restarted", func(k *kube) {
			old := k.Pods(k.t, k.ns, "app=web")[0]
			k.kubectl("rollout", "restart", "deployment/web")
			k.kubectl("wait", "--for=delete", "pod/"+old, "--timeout=30s")
		}},
		{"pod deleted", func(k *kube) {
			k.kubectl("delete", "pod", "-l", "app=web") // and wait until it is gone
		}},
		{"pod killed at once", func(k *kube) {
			old := k.Pods(k.t, k.ns, "app=web")[0]
			k.kubectl("delete", "pod", old, "--grace-period=0", "--force")
		}},
		{"scaled to zero and back", func(k *kube) {
			k.kubectl("scale", "deployment/web", "--replicas=0")
			k.kubectl("wait", "--for=delete", "pod", "-l", "app=web", "--timeout=20s")
			eventually(k.t, "status tells that there is no pod", func() bool {
				one := k.service(k.root, "web")
				return one.State == forwarder.Unhealthy && strings.Contains(one.LastError, "has no pods")
			})
			k.kubectl("scale", "deployment/web", "--replicas=1")
			eventually(k.t, "the log tells the same", func() bool {
				out := k.mustRun(k.root, "logs")
				return strings.Contains(out, "waiting: service/web has no pods") && strings.Contains(out, "forwarding to port 7000 of pod web-")
			})
		}},
		{"container crashed", func(k *kube) {
			k.KillContainer(k.t, k.ns, k.Pods(k.t, k.ns, "app=web")[0])
		}},
		{"service re-pointed", func(k *kube) {
			k.Deploy(k.t, cluster.Deployment{Name: "other", Namespace: k.ns, Replicas: 1})
			k.kubectl("patch", "service", "web", "-p", `{"spec": {"selector": {"app": "other"}}}`)
			k.kubectl("delete", "deployment", "web")
			k.kubectl("wait", "--for=delete", "pod", "-l", "app=web", "--timeout=30s")
		}},
		{"kubelet gone for a while", func(k *kube) {
			k.Kubelet.Kill()
			wait.Sleep(context.Background(), 2*time.Second) // that is the event
			if err := k.Kubelet.Start(); err != nil {
				k.t.Error(err)
			}
		}},
		{"API server restarted", func(k *kube) {
			k.APIServer.Kill()
			if err := k.APIServer.Start(); err != nil {
				k.t.Error(err)
			}
			ready()
		}},
		{"API server frozen", func(k *kube) {
			k.APIServer.Freeze()
			eventually(k.t, "status tells that the server does not answer", func() bool {
				one := k.service(k.root, "web")
				return one.State == forwarder.Unhealthy && strings.Contains(one.LastError, "does not answer")
			})
			k.APIServer.Thaw()
		}},
	} {
		t.Run(event.name, func(t *testing.T) {
			k := intoCluster(t, c, `resource_name = "web"`)
			k.mustRun(k.root, "start")
			v, bare := comeTo(k.addr, fiftyASecond), comeTo(k.bareKubectl(), fiftyASecond)
			begun := time.Now()
			eventually(t, "the first visitors are greeted", func() bool { return v.greeted(begun) })
			began := time.Now()
			event.happen(k)
			happened := time.Now()
			eventually(t, "visitors are greeted again", func() bool { return v.greeted(happened) })
			all, failed, cutOff, longest, why := v.leave()
			_, bareFailed, bareCut, _, _ := bare.leave()
			t.Logf("%s (%.1f s): localport: %d of %d failed, %d cut off, the longest took %.1f s; kubectl port-forward: %d failed, %d cut off",
				event.name, happened.Sub(began).Seconds(), failed, all, cutOff, longest.Seconds(), bareFailed, bareCut)
			if failed > 0 {
				t.Errorf("%d of %d visitors failed: %v\n%s", failed, all, why, k.mustRun(k.root, "logs"))
			}
			if errors.Is(why, syscall.ECONNREFUSED) {
				t.Error("the port was closed")
			}
		})
	}
}

// TestKubectlEngine_RecoversInAClusterAsFarAsKubectlCan runs the engine "kubectl", whose process dies of what the other survives.
func TestKubectlEngine_RecoversInAClusterAsFarAsKubectlCan(t *testing.T) {
	c := cluster.Start(t)
	k := intoCluster(t, c, `resource_name = "web", engine = "kubectl"`)
	k.mustRun(k.root, "start")
	v := comeTo(k.addr, 100*time.Millisecond) // through kubectl, a machine with enough to do does not let in many more
	begun := time.Now()
	eventually(t, "the first visitors are greeted", func() bool { return v.greeted(begun) })
	k.kubectl("delete", "pod", "-l", "app=web")
	gone := time.Now()
	eventually(t, "visitors are greeted by the pod's replacement", func() bool { return v.greeted(gone) })
	c.APIServer.Kill()
	if err := c.APIServer.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.WaitAPIServerReady(ctx); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	eventually(t, "visitors are greeted after the server's restart", func() bool { return v.greeted(back) })
	all, failed, cutOff, longest, why := v.leave()
	t.Logf("%d of %d failed, %d cut off, the longest took %.1f s", failed, all, cutOff, longest.Seconds())
	if failed > 0 {
		t.Errorf("%d of %d visitors failed: %v\n%s", failed, all, why, k.mustRun(k.root, "logs"))
	}
	if one := k.service(k.root, "web"); one.Restarts == 0 {
		t.Error("kubectl was never restarted: was it used at all?")
	}
}
