package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/testdata/cluster"
	"github.com/localport-sh/localport/testdata/ports"
)

// The benchmarks of Kubernetes forwards run beside kubectl port-forward, on a real cluster, in the same run:
// go test -run '^$' -bench Kubernetes -benchtime 5x ./cmd/localport

// kubeBench is a cluster with a deployment, and a project of several forwards to it.
type kubeBench struct {
	built
	*cluster.Cluster
	b     *testing.B
	ns    string
	root  string
	addrs []string
}

// kubeBenchmark starts a cluster once for all sub-benchmarks.
func kubeBenchmark(b *testing.B) *kubeBench {
	b.Helper()
	c := cluster.Start(b)
	k := &kubeBench{built: build(b), Cluster: c, b: b, ns: c.Namespace(b)}
	k.env = append(k.env, "KUBECONFIG="+c.Kubeconfig())
	c.Deploy(b, cluster.Deployment{Name: "web", Namespace: k.ns, Replicas: 1})
	return k
}

// project makes a project of n forwards to a port of the service.
func (k *kubeBench) project(n int, port string) {
	k.b.Helper()
	var config strings.Builder
	k.addrs = nil
	for i := range n {
		local := ports.FreePort(k.b)
		k.addrs = append(k.addrs, fmt.Sprintf("127.0.0.1:%d", local))
		fmt.Fprintf(&config, "[services.s%d]\ntechnology = \"kubectl\"\nlocal_port = %d\nremote_port = %q\nconnection = { namespace = %q, resource_name = \"web\" }\n",
			i, local, port, k.ns)
	}
	k.root = k.built.project(config.String())
	k.must(k.b, k.root, "allow")
}

// up starts the project; down ends it and waits for that.
func (k *kubeBench) up() { k.must(k.b, k.root, "start", "--no-wait") }

func (k *kubeBench) down() {
	k.must(k.b, k.root, "stop")
	eventually(k.b, "the project is down", func() bool { return k.state(k.root).Supervisor == nil })
}

// kubectls are bare kubectl port-forwards; end ends them.
func (k *kubeBench) kubectls(n int, port string) (addrs []string, pids []int, end func()) {
	k.b.Helper()
	var all []*exec.Cmd
	var outs []*bufio.Reader
	for range n {
		cmd := exec.Command("kubectl", "port-forward", "-n", k.ns, "service/web", ":"+port)
		cmd.Env = append(os.Environ(), "KUBECONFIG="+k.Kubeconfig(), "HOME="+k.home)
		out, err := cmd.StdoutPipe()
		if err != nil {
			k.b.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			k.b.Fatal(err)
		}
		all, outs = append(all, cmd), append(outs, bufio.NewReader(out))
		pids = append(pids, cmd.Process.Pid)
	}
	for _, out := range outs {
		line, err := out.ReadString('\n')
		addr := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(line)
		if addr == "" {
			k.b.Fatalf("kubectl said %q, %v", line, err)
		}
		addrs = append(addrs, addr)
		go func() { _, _ = io.Copy(io.Discard, out) }()
	}
	return addrs, pids, func() {
		for _, cmd := range all {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
}

// greetedBy waits until every address greets.
func greetedBy(b *testing.B, addrs []string) {
	b.Helper()
	for _, addr := range addrs {
		if v := callOn(addr); v.err != nil {
			b.Fatal(v.err)
		}
	}
}

// BenchmarkKubernetesReady is the time from the command until every forward has carried its first byte.
func BenchmarkKubernetesReady(b *testing.B) {
	k := kubeBenchmark(b)
	for _, n := range []int{1, 10} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			k.project(n, "7000")
			var ours, opening, theirs []time.Duration
			for b.Loop() {
				began := time.Now()
				k.up()
				greetedBy(b, k.addrs)
				ours = append(ours, time.Since(began))
				opening = append(opening, k.opening(began))
				k.down()
				began = time.Now()
				addrs, _, end := k.kubectls(n, "7000")
				greetedBy(b, addrs)
				theirs = append(theirs, time.Since(began))
				end()
			}
			b.ReportMetric(median(ours).Seconds()*1000, "ms/localport")
			b.ReportMetric(median(theirs).Seconds()*1000, "ms/kubectl")
			b.ReportMetric(float64(median(theirs))/float64(median(ours)), "times-sooner")
			b.ReportMetric(median(opening).Seconds()*1000, "ms/localport-opening")
			b.ReportMetric(float64(median(theirs))/float64(median(opening)), "times-sooner-opening")
		})
	}
}

// opening is the time from when the supervisor began to open the first forward until the last was healthy: what a forward
// takes where the supervisor runs.
func (k *kubeBench) opening(since time.Time) time.Duration {
	k.b.Helper()
	return k.built.opening(k.b, k.root, len(k.addrs), since)
}

// opening is the time from when a project's supervisor began to open the first of n forwards until the last was healthy.
func (w built) opening(b *testing.B, root string, n int, since time.Time) time.Duration {
	b.Helper()
	var first, last time.Time
	eventually(b, "every forward is healthy", func() bool {
		cmd := exec.Command(w.exe, "events", "--json", "-n", "1000")
		cmd.Dir, cmd.Env = root, w.env
		out, err := cmd.Output()
		if err != nil {
			b.Fatal(err)
		}
		first, last = time.Time{}, time.Time{}
		healthy := 0
		for line := range strings.Lines(string(out)) {
			var e eventlog.Event
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				b.Fatal(err)
			}
			switch {
			case e.Time.Before(since):
			case e.To == string(forwarder.Starting) && first.IsZero():
				first = e.Time
			case e.To == string(forwarder.Healthy):
				last = e.Time
				healthy++
			}
		}
		return healthy == n
	})
	return last.Sub(first)
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

// BenchmarkKubernetesMemory is the memory of everything that is involved on this side, each page counted once.
func BenchmarkKubernetesMemory(b *testing.B) {
	k := kubeBenchmark(b)
	for _, n := range []int{10, 50} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				k.project(n, "7000")
				k.up()
				greetedBy(b, k.addrs)
				eventually(b, "there is a keeper", func() bool { return k.state(k.root).Supervisor.Keeper > 0 })
				time.Sleep(5 * time.Second) // its start is over
				ours := proportional(b, k.state(k.root).Supervisor.PID) + proportional(b, k.state(k.root).Supervisor.Keeper)
				greetedBy(b, k.addrs)
				resident, _ := memory(b, k.state(k.root).Supervisor.PID)
				k.down()
				addrs, pids, end := k.kubectls(n, "7000")
				greetedBy(b, addrs)
				theirs := 0.0
				for _, pid := range pids {
					theirs += proportional(b, pid)
				}
				end()
				b.ReportMetric(ours, "MB-localport")
				b.ReportMetric(resident, "MB-resident-supervisor")
				b.ReportMetric(theirs, "MB-kubectl")
				b.ReportMetric(theirs/ours, "times-less")
			}
		})
	}
}

// proportional is a process's memory in MB, what it shares with others divided among them.
func proportional(b *testing.B, pid int) float64 {
	b.Helper()
	data, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "smaps_rollup"))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var kb float64
		if n, _ := fmt.Sscanf(line, "Pss: %f", &kb); n == 1 {
			return kb / 1024
		}
	}
	b.Fatal("no Pss")
	return 0
}

// BenchmarkKubernetesThroughput downloads through one connection and through eight at once.
func BenchmarkKubernetesThroughput(b *testing.B) {
	k := kubeBenchmark(b)
	k.project(1, "80")
	k.up()
	defer k.down()
	addrs, _, end := k.kubectls(1, "80")
	defer end()
	for _, streams := range []int{1, 8} {
		b.Run(fmt.Sprint(streams), func(b *testing.B) {
			const size = 256 << 20
			var ours, theirs time.Duration
			for b.Loop() {
				ours += download(b, k.addrs[0], streams, size/streams)
				theirs += download(b, addrs[0], streams, size/streams)
			}
			rate := func(took time.Duration) float64 { return float64(b.N) * size / (1 << 20) / took.Seconds() }
			b.ReportMetric(rate(ours), "MB/s-localport")
			b.ReportMetric(rate(theirs), "MB/s-kubectl")
			b.ReportMetric(float64(theirs)/float64(ours), "ratio")
		})
	}
}

func download(b *testing.B, addr string, streams, size int) time.Duration {
	b.Helper()
	began := time.Now()
	var all sync.WaitGroup
	for range streams {
		all.Go(func() {
			client := http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			resp, err := client.Get(fmt.Sprintf("http://%s/bytes?n=%d", addr, size))
			if err != nil {
				b.Error(err)
				return
			}
			defer resp.Body.Close()
			if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != int64(size) {
				b.Errorf("%d bytes, %v", n, err)
			}
		})
	}
	all.Wait()
	return time.Since(began)
}

// BenchmarkKubernetesLatency is a byte there and back, and a connection with its first byte.
func BenchmarkKubernetesLatency(b *testing.B) {
	k := kubeBenchmark(b)
	k.project(1, "7000")
	k.up()
	defer k.down()
	addrs, _, end := k.kubectls(1, "7000")
	defer end()
	b.Run("byte", func(b *testing.B) {
		var conns [2]net.Conn
		for i, addr := range []string{k.addrs[0], addrs[0]} {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
				b.Fatal(err)
			}
			conns[i] = conn
		}
		var took [2][]time.Duration
		buf := make([]byte, 1)
		for b.Loop() {
			for i, conn := range conns {
				for range 100 {
					began := time.Now()
					if _, err := conn.Write(buf); err != nil {
						b.Fatal(err)
					}
					if _, err := io.ReadFull(conn, buf); err != nil {
						b.Fatal(err)
					}
					took[i] = append(took[i], time.Since(began))
				}
			}
		}
		reportPair(b, took)
	})
	b.Run("connection", func(b *testing.B) {
		var took [2][]time.Duration
		for b.Loop() {
			for i, addr := range []string{k.addrs[0], addrs[0]} {
				for range 20 {
					v := callOn(addr)
					if v.err != nil {
						b.Fatal(v.err)
					}
					took[i] = append(took[i], v.took)
				}
			}
		}
		reportPair(b, took)
	})
}

func reportPair(b *testing.B, took [2][]time.Duration) {
	b.Helper()
	ours, theirs := median(took[0]), median(took[1])
	b.ReportMetric(ours.Seconds()*1e6, "µs/localport")
	b.ReportMetric(theirs.Seconds()*1e6, "µs/kubectl")
	b.ReportMetric(float64(ours)/float64(theirs), "ratio")
}

// BenchmarkKubernetesPodDeleted is the time from kubectl delete pod until a new connection is answered by its replacement,
// beside the replacement's own time to be ready. A bare kubectl port-forward never answers again.
func BenchmarkKubernetesPodDeleted(b *testing.B) {
	k := kubeBenchmark(b)
	k.project(1, "7000")
	k.up()
	defer k.down()
	greetedBy(b, k.addrs)
	var answered, ready time.Duration
	for b.Loop() {
		old := k.Pods(b, k.ns, "app=web")[0]
		began := time.Now()
		var watching sync.WaitGroup
		watching.Go(func() {
			k.Kubectl(b, "delete", "pod", old, "-n", k.ns, "--wait=false")
			k.WaitReady(b, k.ns, "app=web", 1)
			ready += time.Since(began)
		})
		for {
			if v := callOn(k.addrs[0]); v.err == nil && v.pod != old {
				break
			}
		}
		answered += time.Since(began)
		watching.Wait()
	}
	b.ReportMetric(answered.Seconds()*1000/float64(b.N), "ms/answered")
	b.ReportMetric(ready.Seconds()*1000/float64(b.N), "ms/pod-ready")
	b.ReportMetric(float64(answered)/float64(ready), "ratio")
}
