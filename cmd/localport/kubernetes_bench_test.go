//go:build linux

package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/testdata/bench"
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
	k, results := kubeBenchmark(b), resultsOf(b)
	for _, n := range []int{1, 10} {
		if n == 1 && table != nil {
			continue
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			k.project(n, "7000")
			prefix := fmt.Sprintf("kubectl, %d forwards, cold until all answer", n)
			answer := results.Compare(prefix, "ms", bench.Peer{Name: "kubectl", Goal: bench.AtMost(0.2)})
			opening := results.Measure(prefix+", without the supervisor's start", "ms", bench.Goal{})
			for round := 0; b.Loop(); round++ {
				for _, name := range answer.Order(round) {
					startTime := time.Now()
					if name == bench.LocalPort {
						k.start()
						waitGreetings(b, k.addrs)
						answer.Add(name, ms(time.Since(startTime)))
						opening.Add(name, ms(k.openingTime(startTime)))
						k.stop()
						continue
					}
					addrs, _, kill := k.startPortForwards(n, "7000")
					waitGreetings(b, addrs)
					answer.Add(name, ms(time.Since(startTime)))
					kill()
				}
			}
			reportMetrics(b, answer, opening)
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

// BenchmarkKubernetesMemory measures the memory of all local processes, with shared pages counted once.
func BenchmarkKubernetesMemory(b *testing.B) {
	k, results := kubeBenchmark(b), resultsOf(b)
	for _, n := range []int{10, 50} {
		if n > 10 && table != nil {
			continue
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			prefix := fmt.Sprintf("kubectl, %d forwards, memory", n)
			memory := results.Compare(prefix+" with the keeper", "MB", bench.Peer{Name: "kubectl"})
			own := results.Measure(prefix+" of LocalPort", "MB", bench.AtMost(20))
			resident := results.Measure(prefix+", resident, of the supervisor", "MB", bench.Goal{})
			k.project(n, "7000")
			for round := 0; b.Loop(); round++ {
				for _, name := range memory.Order(round) {
					if name != bench.LocalPort {
						addrs, pids, kill := k.startPortForwards(n, "7000")
						waitGreetings(b, addrs)
						sum := 0.0
						for _, pid := range pids {
							sum += proportionalMemory(b, pid)
						}
						kill()
						memory.Add(name, sum)
						continue
					}
					k.start()
					waitGreetings(b, k.addrs)
					eventually(b, "there is a keeper", func() bool { return k.state(k.root).Supervisor.Keeper > 0 })
					time.Sleep(5 * time.Second) // until its start is over
					supervisor := k.state(k.root).Supervisor
					sum := proportionalMemory(b, supervisor.PID) + proportionalMemory(b, supervisor.Keeper)
					memory.Add(name, sum)
					own.Add(name, sum)
					waitGreetings(b, k.addrs)
					rss, _ := processMemory(b, supervisor.PID)
					resident.Add(name, rss)
					k.stop()
				}
			}
			reportMetrics(b, memory, own, resident)
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
	k, results := kubeBenchmark(b), resultsOf(b)
	addrs, end := k.startBoth("80")
	defer end()
	for _, streams := range []int{1, 8} {
		b.Run(fmt.Sprint(streams), func(b *testing.B) {
			const size = 128 << 20
			goal := map[int]float64{1: 1, 8: 1.5}[streams]
			c := results.Compare(fmt.Sprintf("kubectl, download, streams: %d", streams), "MB/s", bench.Peer{Name: "kubectl", Goal: bench.AtLeast(goal)})
			for round := 0; b.Loop(); round++ {
				for _, name := range c.Order(round) {
					c.Add(name, size/1e6/download(b, addrs[name], streams, size/streams).Seconds())
				}
			}
			reportMetrics(b, c)
		})
	}
}

// startBoth starts a forward of localport and one of kubectl to a port of the service, and returns the address of each.
func (k *kubeBench) startBoth(port string) (addrs map[string]string, end func()) {
	k.b.Helper()
	k.project(1, port)
	k.start()
	kubectl, _, kill := k.startPortForwards(1, port)
	return map[string]string{bench.LocalPort: k.addrs[0], "kubectl": kubectl[0]}, func() { kill(); k.stop() }
}

// BenchmarkKubernetesConnections measures how many connections a second are greeted and echoed, by ten clients at once.
func BenchmarkKubernetesConnections(b *testing.B) {
	k, results := kubeBenchmark(b), resultsOf(b)
	addrs, end := k.startBoth("7000")
	defer end()
	c := results.Compare("kubectl, connections", "a second", bench.Peer{Name: "kubectl", Goal: bench.AtLeast(2)}, bench.Peer{Name: "kubefwd", Goal: bench.AtLeast(2)})
	// Installed or not: it needs root and writes to /etc/hosts.
	c.Missing("kubefwd", cmp.Or(kubefwdProgram.Missing(), "this benchmark cannot run it: it changes /etc/hosts"))
	for round := 0; b.Loop(); round++ {
		for _, name := range c.Order(round) {
			const clients, each = 10, 30
			startTime := time.Now()
			var all sync.WaitGroup
			for range clients {
				all.Go(func() {
					for range each {
						if r := askPod(addrs[name]); r.err != nil {
							b.Errorf("%s: %v", name, r.err)
							return
						}
					}
				})
			}
			all.Wait()
			c.Add(name, clients*each/time.Since(startTime).Seconds())
		}
	}
	reportMetrics(b, c)
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
	k, results := kubeBenchmark(b), resultsOf(b)
	addrs, end := k.startBoth("7000")
	defer end()
	conns := map[string]net.Conn{}
	for name, addr := range addrs {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
			b.Fatal(err)
		}
		conns[name] = conn
	}
	for _, measurement := range []struct {
		name string
		n    int
		act  func(name string) error
	}{
		{"byte", 100, func(name string) error { return echoByte(conns[name]) }},
		{"connection", 20, func(name string) error { return askPod(addrs[name]).err }},
	} {
		b.Run(measurement.name, func(b *testing.B) {
			c := results.Compare("kubectl, round trip of a "+measurement.name, "µs", bench.Peer{Name: "kubectl"})
			for round := 0; b.Loop(); round++ {
				for _, name := range c.Order(round) {
					c.Add(name, medianOf(b, measurement.n, func() error { return measurement.act(name) }))
				}
			}
			reportMetrics(b, c)
		})
	}
}

// BenchmarkKubernetesPodDeleted measures the time from kubectl delete pod until its replacement answers a new connection, compared with
// the time until the replacement is ready. A bare kubectl port-forward never answers again.
func BenchmarkKubernetesPodDeleted(b *testing.B) {
	k, results := kubeBenchmark(b), resultsOf(b)
	k.project(1, "7000")
	k.start()
	defer k.stop()
	waitGreetings(b, k.addrs)
	c := results.Compare("pod replaced, time until a client is answered", "ms", bench.Peer{Name: "until the pod is ready", Goal: bench.AtMost(1.2)})
	refused := results.Measure("pod replaced, clients that fail", "clients", bench.AtMost(0))
	for b.Loop() {
		current := askPod(k.addrs[0]) // not one of k.Pods: those of earlier rounds may still be ending
		mustAll(b, current.err)
		old := current.pod
		clients := startPodClients(clientInterval, k.addrs[0])
		startTime := time.Now()
		var watching sync.WaitGroup
		watching.Go(func() {
			k.Kubectl(b, "delete", "pod", old, "-n", k.ns, "--wait=false")
			k.WaitReady(b, k.ns, "app=web", 1)
			c.Add("until the pod is ready", ms(time.Since(startTime)))
		})
		eventually(b, "the new pod answers", func() bool {
			return clients.count(func(r podReply) bool { return r.err == nil && r.pod != old }) > 0
		})
		watching.Wait()
		answered := outageLimit
		failed := 0.0
		for _, r := range clients.clientStream.stop() {
			switch {
			case r.err != nil && !r.isCutOff:
				failed++
			case r.err == nil && r.pod != old:
				answered = min(answered, r.startTime.Add(r.took).Sub(startTime))
			}
		}
		c.Add(bench.LocalPort, ms(answered))
		refused.Add(bench.LocalPort, failed)
	}
	reportMetrics(b, c, refused)
}
