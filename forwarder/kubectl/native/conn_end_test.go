package native

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/cluster"
)

func TestTunnel_ReachesPodsOfEveryOwnerKind(t *testing.T) {
	c := startCluster(t)
	ns := c.Namespace(t)
	const pod = `
      terminationGracePeriodSeconds: 1
      containers: [{name: c, image: "localhost/echo:test", imagePullPolicy: Never, args: [-greet, ":7000"],
        readinessProbe: {tcpSocket: {port: 7000}, periodSeconds: 1}}]`
	for kind, more := range map[string]string{
		"StatefulSet": "\n  serviceName: x", "DaemonSet": "", "Job": "",
	} {
		group, labels, restart := "apps/v1", "\n  selector: {matchLabels: {app: KIND}}", ""
		if kind == "Job" { // a Job's controller sets the labels
			group, labels, restart = "batch/v1", "", "\n      restartPolicy: Never"
		}
		name := strings.ToLower(kind)
		c.Apply(t, strings.ReplaceAll(fmt.Sprintf(`
apiVersion: %s
kind: %s
metadata: {name: KIND, namespace: %s}
spec:%s%s
  template:
    metadata: {labels: {app: KIND}}
    spec:%s%s
`, group, kind, ns, more, labels, restart, pod), "KIND", name))
	}
	for _, kind := range []string{"statefulset", "daemonset", "job"} {
		c.WaitReady(t, ns, "app="+kind, 1) // a running container may not listen yet
		tunnel := openTunnel(t, c.Kubeconfig(), specFor(kind+"/"+kind+":7000", ns))
		if got := readGreeting(t, dial(t, tunnel)); !strings.HasPrefix(got, kind+"-") {
			t.Errorf("%s: %q", kind, got)
		}
	}
}

// TestTunnel_ConnectionsEndWithPodOrAPIServer: established connections end soon, and with a reset if the API server failed.
func TestTunnel_ConnectionsEndWithPodOrAPIServer(t *testing.T) {
	c := startCluster(t)
	ready := func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := c.WaitAPIServerReady(ctx); err != nil {
			t.Error(err)
		}
	}
	for _, tt := range []struct {
		name   string
		end    func(ns, pod string)
		mend   func()
		within time.Duration
		reset  bool
	}{
		{"pod deleted", func(ns, pod string) { c.Kubectl(t, "delete", "pod", pod, "-n", ns, "--wait=false") }, func() {}, 30 * time.Second, false},
		{"container killed", func(ns, pod string) { c.KillContainer(t, ns, pod) }, func() {}, 30 * time.Second, false},
		{"API server killed", func(string, string) { c.APIServer.Kill() }, func() { _ = c.APIServer.Start(); ready() }, 30 * time.Second, true},
		{"API server frozen", func(string, string) { c.APIServer.Freeze() }, func() { c.APIServer.Thaw(); ready() }, 30 * time.Second, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ns := c.Namespace(t)
			c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns})
			addr, _ := startRelay(t, c.Kubeconfig(), specFor("service/web:7000", ns))
			conn := dialRelay(t, addr)
			reader := bufio.NewReader(conn)
			line, err := reader.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			defer tt.mend()
			tt.end(ns, strings.TrimSpace(strings.TrimPrefix(line, "hello ")))
			_ = conn.SetReadDeadline(time.Now().Add(tt.within))
			_, err = reader.ReadByte()
			t.Logf("%v after %.1f s", err, time.Since(start).Seconds())
			if errors.Is(err, syscall.ECONNRESET) {
				return
			}
			if tt.reset || !errors.Is(err, io.EOF) {
				t.Errorf("it ended with %v", err)
			}
		})
	}
}

// TestTunnel_SilentClientSurvivesAKilledContainer: neither side has sent a byte, so the client can be connected to the next container.
func TestTunnel_SilentClientSurvivesAKilledContainer(t *testing.T) {
	c := startCluster(t)
	ns := c.Namespace(t)
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns})
	addr, _ := startRelay(t, c.Kubeconfig(), specFor("service/web:7001", ns))
	quiet, talker := dialRelay(t, addr), dialRelay(t, addr)
	if _, err := io.WriteString(talker, "word\n"); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(talker)
	if line, err := reader.ReadString('\n'); line != "word\n" {
		t.Fatalf("%q, %v", line, err)
	}
	c.KillContainer(t, ns, c.Pods(t, ns, "app=web")[0])
	if _, err := reader.ReadByte(); err == nil {
		t.Error("the connection that has received bytes is still open")
	}
	_ = quiet.SetDeadline(time.Now().Add(30 * time.Second))
	c.WaitReady(t, ns, "app=web", 1)
	if _, err := io.WriteString(quiet, "and now\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(quiet).ReadString('\n'); line != "and now\n" {
		t.Errorf("%q, %v", line, err)
	}
}

func TestTunnel_ReportsARefusedPort(t *testing.T) {
	c := startCluster(t)
	ns := c.Namespace(t)
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns})
	tunnel := openTunnel(t, c.Kubeconfig(), specFor("deployment/web:9", ns))
	// Other connections are not affected by the refused one, even on the same upstream.
	other := openTunnel(t, c.Kubeconfig(), specFor("deployment/web:7000", ns))
	fine := dial(t, other)
	pod := readGreeting(t, fine)
	shared := other.upstreams()[0]
	refused, err := shared.openStreams(9)
	if err != nil {
		t.Fatal(err)
	}
	conn := dial(t, tunnel)
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read: %v", err)
	}
	select {
	case r := <-tunnel.Refusals():
		if !r.IsConnectFailure || r.Conn != conn || r.Reason != fmt.Sprintf("nothing listens on port 9 of pod %s: connection refused", pod) ||
			!strings.Contains(r.Hint, "kubectl logs "+pod) {
			t.Errorf("%+v", r)
		}
	default:
		t.Error("nothing was reported before the end")
	}
	_, _ = refused.errorStream.WriteTo(io.Discard)
	_, _ = io.WriteString(fine, "word\n")
	if line, err := bufio.NewReader(fine).ReadString('\n'); line != "word\n" {
		t.Errorf("%s: %q, %v", pod, line, err)
	}
}

func TestConn_ReadDeadlineLeavesTheConnectionUsable(t *testing.T) {
	c := startCluster(t)
	ns := c.Namespace(t)
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns})
	quiet := dial(t, openTunnel(t, c.Kubeconfig(), specFor("service/web:7001", ns)))
	_ = quiet.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := quiet.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	_ = quiet.SetReadDeadline(time.Time{})
	_, _ = io.WriteString(quiet, "a")
	if n, err := quiet.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("after it: %d, %v", n, err)
	}
}

// TestTunnel_AResetByTheServerIsAResetAtTheClient: the node reports a reset beside the data, before their end or after it.
func TestTunnel_AResetByTheServerIsAResetAtTheClient(t *testing.T) {
	c := startCluster(t)
	ns := c.Namespace(t)
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns, Args: []string{"-greet", ":7000", "-reset", ":7002"}})
	addr, _ := startRelay(t, c.Kubeconfig(), specFor("deployment/web:7002", ns))
	const connections, atOnce = 120, 12
	slots, errCh := make(chan struct{}, atOnce), make(chan error, connections)
	for range connections {
		slots <- struct{}{}
		conn := dialRelay(t, addr)
		go func() {
			defer func() { <-slots }()
			defer conn.Close()
			reader := bufio.NewReader(conn)
			_, err := reader.ReadString('\n')
			if err == nil {
				_, err = io.WriteString(conn, "word\n")
			}
			if err == nil {
				_, err = reader.ReadByte()
			}
			errCh <- err
		}()
	}
	ends := make(map[string]int)
	for range connections {
		switch err := <-errCh; {
		case errors.Is(err, syscall.ECONNRESET):
			ends["reset"]++
		case err != nil:
			ends[err.Error()]++
		default:
			ends["a byte"]++
		}
	}
	t.Logf("ends of %d connections: %v", connections, ends)
	if ends["reset"] != connections {
		t.Errorf("only %d of %d were reset", ends["reset"], connections)
	}
}

// BenchmarkConn_RefusalAfterPing measures how long after the answer to a ping a refusal arrives: probe/tcp waits that long for one.
func BenchmarkConn_RefusalAfterPing(b *testing.B) {
	c := startCluster(b)
	ns := c.Namespace(b)
	c.Deploy(b, cluster.Deployment{Name: "web", Namespace: ns})
	tunnel := openTunnel(b, c.Kubeconfig(), specFor("deployment/web:9", ns))
	var delays []time.Duration
	for b.Loop() {
		refused := dial(b, tunnel)
		if err := refused.(*conn).Ping(b.Context()); err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		if _, err := refused.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			b.Fatal(err)
		}
		delays = append(delays, time.Since(start))
		_ = refused.Close()
	}
	slices.Sort(delays)
	for name, at := range map[string]int{"median": len(delays) / 2, "p99": len(delays) * 99 / 100, "max": len(delays) - 1} {
		b.ReportMetric(float64(delays[at].Microseconds()), name+"-µs")
	}
}
