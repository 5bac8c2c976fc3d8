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

// The benchmarks of Kubernetes forwards compare with kubectl port-forward, on a real cluster, in the same run:
// go test -run '^$' -bench Kubernetes -benchtime 5x ./cmd/localport

// kubeBench is a cluster with a deployment, and a project of several forwards to it.
type kubeBench struct {
	releaseEnv
	*cluster.Cluster
	b     *testing.B
	ns    string
	root  string
	addrs []string
}

// kubeBenchmark starts a cluster for all sub-benchmarks.
func kubeBenchmark(b *testing.B) *kubeBench {
	b.Helper()
	c := cluster.Start(b)
	k := &kubeBench{releaseEnv: newReleaseEnv(b), Cluster: c, b: b, ns: c.Namespace(b)}
	k.env = append(k.env, "KUBECONFIG="+c.Kubeconfig())
	c.Deploy(b, cluster.Deployment{Name: "web", Namespace: k.ns, Replicas: 1})
	return k
}

// project creates a project of n forwards to a port of the service.
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
	k.root = k.releaseEnv.project(config.String())
	k.mustRun(k.root, "allow")
}

// start starts the project; stop stops it and waits for its end.
func (k *kubeBench) start() { k.mustRun(k.root, "start", "--no-wait") }

func (k *kubeBench) stop() {
	k.mustRun(k.root, "stop")
	eventually(k.b, "the project is down", func() bool { return k.state(k.root).Supervisor == nil })
}

// startPortForwards starts n port forwards of kubectl at once; kill ends them.
func (k *kubeBench) startPortForwards(n int, port string) (addrs []string, pids []int, kill func()) {
	k.b.Helper()
	var all []*portForward
	for range n {
		all = append(all, startPortForward(k.b, k.Cluster, k.home, k.ns, port))
	}
	for _, p := range all {
		addrs, pids = append(addrs, p.waitAddr(k.b)), append(pids, p.cmd.Process.Pid)
	}
	return addrs, pids, func() {
		for _, p := range all {
			p.kill()
		}
	}
}

// waitGreetings waits until a pod has answered at each address.
func waitGreetings(b *testing.B, addrs []string) {
	b.Helper()
	for _, addr := range addrs {
		if r := askPod(addr); r.err != nil {
			b.Fatal(r.err)
		}
	}
}

// BenchmarkKubernetesReady measures the time from the command until every forward has carried its first byte.
func BenchmarkKubernetesReady(b *testing.B) {
	k := kubeBenchmark(b)
	for _, n := range []int{1, 10} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			k.project(n, "7000")
			var ours, opening, theirs []time.Duration
			for b.Loop() {
				startTime := time.Now()
				k.start()
				waitGreetings(b, k.addrs)
				ours = append(ours, time.Since(startTime))
				opening = append(opening, k.openingTime(startTime))
				k.stop()
				startTime = time.Now()
				addrs, _, kill := k.startPortForwards(n, "7000")
				waitGreetings(b, addrs)
				theirs = append(theirs, time.Since(startTime))
				kill()
			}
			b.ReportMetric(median(ours).Seconds()*1000, "ms/localport")
			b.ReportMetric(median(theirs).Seconds()*1000, "ms/kubectl")
			b.ReportMetric(float64(median(theirs))/float64(median(ours)), "times-sooner")
			b.ReportMetric(median(opening).Seconds()*1000, "ms/localport-opening")
			b.ReportMetric(float64(median(theirs))/float64(median(opening)), "times-sooner-opening")
		})
	}
}

// openingTime returns how long the supervisor took to open all forwards since a time.
func (k *kubeBench) openingTime(since time.Time) time.Duration {
	k.b.Helper()
	return k.releaseEnv.openingTime(k.b, k.root, len(k.addrs), since)
}

// openingTime waits until n forwards are healthy, and returns how long that took from the event that the first of them was starting. It
// ignores events before since, and does not include the start of the supervisor.
func (w releaseEnv) openingTime(b *testing.B, root string, n int, since time.Time) time.Duration {
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

// BenchmarkKubernetesMemory measures the memory of all local processes, with shared pages counted once.
func BenchmarkKubernetesMemory(b *testing.B) {
	k := kubeBenchmark(b)
	for _, n := range []int{10, 50} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				k.project(n, "7000")
				k.start()
				waitGreetings(b, k.addrs)
				eventually(b, "there is a keeper", func() bool { return k.state(k.root).Supervisor.Keeper > 0 })
				time.Sleep(5 * time.Second) // until its start is over
				ours := proportionalMemory(b, k.state(k.root).Supervisor.PID) + proportionalMemory(b, k.state(k.root).Supervisor.Keeper)
				waitGreetings(b, k.addrs)
				resident, _ := processMemory(b, k.state(k.root).Supervisor.PID)
				k.stop()
				addrs, pids, kill := k.startPortForwards(n, "7000")
				waitGreetings(b, addrs)
				theirs := 0.0
				for _, pid := range pids {
					theirs += proportionalMemory(b, pid)
				}
				kill()
				b.ReportMetric(ours, "MB-localport")
				b.ReportMetric(resident, "MB-resident-supervisor")
				b.ReportMetric(theirs, "MB-kubectl")
				b.ReportMetric(theirs/ours, "times-less")
			}
		})
	}
}

// proportionalMemory returns a process's memory in MB, with its share of the pages that it shares (Pss).
func proportionalMemory(b *testing.B, pid int) float64 {
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
	k.start()
	defer k.stop()
	addrs, _, kill := k.startPortForwards(1, "80")
	defer kill()
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
	startTime := time.Now()
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
	return time.Since(startTime)
}

// BenchmarkKubernetesLatency measures the round trip of a byte, and a connection with its first byte.
func BenchmarkKubernetesLatency(b *testing.B) {
	k := kubeBenchmark(b)
	k.project(1, "7000")
	k.start()
	defer k.stop()
	addrs, _, kill := k.startPortForwards(1, "7000")
	defer kill()
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
					startTime := time.Now()
					if _, err := conn.Write(buf); err != nil {
						b.Fatal(err)
					}
					if _, err := io.ReadFull(conn, buf); err != nil {
						b.Fatal(err)
					}
					took[i] = append(took[i], time.Since(startTime))
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
					r := askPod(addr)
					if r.err != nil {
						b.Fatal(r.err)
					}
					took[i] = append(took[i], r.took)
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

// BenchmarkKubernetesPodDeleted measures the time from kubectl delete pod until its replacement answers a new connection, compared with
// the time until the replacement is ready. A bare kubectl port-forward never answers again.
func BenchmarkKubernetesPodDeleted(b *testing.B) {
	k := kubeBenchmark(b)
	k.project(1, "7000")
	k.start()
	defer k.stop()
	waitGreetings(b, k.addrs)
	var answered, ready time.Duration
	for b.Loop() {
		old := k.Pods(b, k.ns, "app=web")[0]
		startTime := time.Now()
		var watching sync.WaitGroup
		watching.Go(func() {
			k.Kubectl(b, "delete", "pod", old, "-n", k.ns, "--wait=false")
			k.WaitReady(b, k.ns, "app=web", 1)
			ready += time.Since(startTime)
		})
		for {
			if r := askPod(k.addrs[0]); r.err == nil && r.pod != old {
				break
			}
		}
		answered += time.Since(startTime)
		watching.Wait()
	}
	b.ReportMetric(answered.Seconds()*1000/float64(b.N), "ms/answered")
	b.ReportMetric(ready.Seconds()*1000/float64(b.N), "ms/pod-ready")
	b.ReportMetric(float64(answered)/float64(ready), "ratio")
}
