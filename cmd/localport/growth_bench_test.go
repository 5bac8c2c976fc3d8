//go:build linux

package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/bench"
	"github.com/localport-sh/localport/testdata/ports"
)

// BenchmarkIdle counts, in a minute without clients, the context switches of supervisors with twenty services and of their keepers. An iteration is
// a minute, in which ten projects are idle at once; BenchmarkTable runs one.
func BenchmarkIdle(b *testing.B) {
	const projects, services, window = 10, 20, time.Minute
	w, results := newReleaseEnv(b), resultsOf(b)
	upstream := serve(b, "127.0.0.1:0")
	var roots []string
	for range projects + 1 {
		root := w.project(tcpServices(services, upstream))
		w.mustRun(root, "allow")
		w.mustRun(root, "start")
		w.waitKeeper(root)
		roots = append(roots, root)
		defer w.mustRun(root, "stop")
	}
	switches := results.Measure("idle a minute, 20 services, context switches", "a minute", bench.AtMost(6))
	cpu := results.Measure("idle a minute, 20 services, CPU", "ms a minute", bench.Goal{})
	time.Sleep(70 * time.Second) // until the start is over, and memtrim.Run has returned memory for the last time, a minute after it
	for round := 0; b.Loop(); round++ {
		if round > 0 && table != nil {
			continue
		}
		account := w.accountForWakes(b, roots[projects], window)
		before := make([]threadSwitches, projects)
		cpuBefore := make([]time.Duration, projects)
		for i, root := range roots[:projects] {
			before[i], cpuBefore[i] = w.threadSwitches(root), cpuTime(w.supervisorAndKeeper(root))
		}
		time.Sleep(window)
		for i, root := range roots[:projects] {
			after := w.threadSwitches(root)
			sum := 0
			for thread, count := range after {
				sum += count - before[i][thread]
				if added := count - before[i][thread]; added > 0 && i == 0 {
					fmt.Printf("# idle: the first project's %s: %d context switches\n", thread, added)
				}
			}
			switches.Add(bench.LocalPort, float64(sum))
			cpu.Add(bench.LocalPort, ms(cpuTime(w.supervisorAndKeeper(root))-cpuBefore[i]))
		}
		fmt.Printf("# idle: one more project in the same minute\n%s", account())
	}
	reportMetrics(b, switches, cpu)
}

// tcpServices returns a config of n services of the technology "tcp".
func tcpServices(n int, upstream *server) string {
	var config strings.Builder
	for i := range n {
		config.WriteString(tcpConfig(fmt.Sprintf("s%d", i), `"auto"`, upstream))
	}
	return config.String()
}

func (w releaseEnv) supervisorAndKeeper(root string) []int {
	supervisor := w.state(root).Supervisor
	return []int{supervisor.PID, supervisor.Keeper}
}

// threadSwitches are the context switches so far, by thread: "supervisor 4711 localport".
type threadSwitches map[string]int

func (w releaseEnv) threadSwitches(root string) threadSwitches {
	all := threadSwitches{}
	for i, pid := range w.supervisorAndKeeper(root) {
		paths, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
		for _, path := range paths {
			data, _ := os.ReadFile(path)
			name := fmt.Sprintf("%s, thread %s", []string{"supervisor", "keeper"}[i], filepath.Base(filepath.Dir(path)))
			for line := range strings.Lines(string(data)) {
				var n int
				if key, value, _ := strings.Cut(line, ":"); strings.HasSuffix(key, "ctxt_switches") {
					_, _ = fmt.Sscan(value, &n)
					all[name] += n
				}
			}
		}
	}
	return all
}

// accountForWakes starts to trace a project's supervisor and keeper. The returned function ends that, and returns what each did whenever it woke.
func (w releaseEnv) accountForWakes(b *testing.B, root string, window time.Duration) func() string {
	b.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		return func() string { return "# strace is not installed\n" }
	}
	var wakes [2][]wake
	var tracing sync.WaitGroup
	for i, pid := range w.supervisorAndKeeper(root) {
		tracing.Go(func() { wakes[i] = traceWakes(b, pid, window+time.Second, 1) })
	}
	return func() string {
		tracing.Wait()
		var text strings.Builder
		for i, name := range []string{"supervisor", "keeper"} {
			fmt.Fprintf(&text, "# the %s woke %d times:\n", name, len(wakes[i]))
			for _, wake := range wakes[i] {
				fmt.Fprintf(&text, "# %v\n", wake)
			}
		}
		return text.String()
	}
}

// BenchmarkGrowth measures how costs grow with the number of services, of shells that enter at once, and of open connections, and fits an
// exponent: 1 is linear growth.
func BenchmarkGrowth(b *testing.B) {
	results := resultsOf(b)
	b.Run("services", func(b *testing.B) { benchmarkServices(b, results) })
	b.Run("shells", func(b *testing.B) { benchmarkShells(b, results) })
	b.Run("connections", func(b *testing.B) { benchmarkConnections(b, results) })
}

func benchmarkServices(b *testing.B, results *bench.Table) {
	sizes := []float64{10, 50, 100, 200} // less than ten add nothing that can be told from what a supervisor without services has in reserve
	w := newReleaseEnv(b)
	upstream, pid := serve(b, "127.0.0.1:0"), fmt.Sprint(os.Getpid())
	var roots []string
	for _, n := range sizes {
		root := w.project(tcpServices(int(n), upstream))
		w.mustRun(root, "allow")
		w.mustRun(root, "start")
		roots = append(roots, root)
		defer w.mustRun(root, "stop")
	}
	b.Run("memory", func(b *testing.B) {
		memory := results.Measure("growth, memory of the supervisor by services 10-200", "exponent", bench.AtMost(1))
		mb := results.Measure("growth, memory of the supervisor with 200 services", "MB", bench.Goal{})
		time.Sleep(70 * time.Second) // until memtrim.Run has returned memory for the last time: before, the garbage of the start is measured
		for b.Loop() {
			var sums []float64
			for _, root := range roots {
				sums = append(sums, proportionalMemory(b, w.state(root).Supervisor.PID))
			}
			mb.Add(bench.LocalPort, sums[len(sums)-1])
			memory.Add(bench.LocalPort, bench.Exponent(sizes, sums))
		}
		reportMetrics(b, memory, mb)
	})
	b.Run("cd", func(b *testing.B) {
		largest := results.Measure("growth, cd with 200 services up", "ms", bench.AtMost(30))
		cd := results.Measure("growth, cd by services 10-200", "exponent", bench.AtMost(1))
		for b.Loop() {
			var costs []float64
			for _, root := range roots {
				var all []float64
				for range 3 {
					wall, _ := w.measure(b, root, w.exe, "export", "bash", "--pid", pid)
					all = append(all, ms(wall))
				}
				costs = append(costs, bench.Median(all))
			}
			largest.Add(bench.LocalPort, costs[len(costs)-1])
			cd.Add(bench.LocalPort, bench.Exponent(sizes, costs))
		}
		reportMetrics(b, largest, cd)
	})
}

func benchmarkShells(b *testing.B, results *bench.Table) {
	sizes := []float64{float64(min(runtime.NumCPU(), 5)), 10, 25, 50} // up to the number of processors, more shells take no longer
	w := newReleaseEnv(b)
	root := w.project(tcpConfig("web", `"auto"`, serve(b, "127.0.0.1:0")))
	w.mustRun(root, "allow")
	w.mustRun(root, "start")
	defer w.mustRun(root, "stop")
	pid := fmt.Sprint(os.Getpid())
	exponent := results.Measure(fmt.Sprintf("growth, entering at once by shells %.0f-50", sizes[0]), "exponent", bench.AtMost(1))
	fifty := results.Measure("growth, 50 shells enter at once, until all have", "ms", bench.Goal{})
	for b.Loop() {
		var costs []float64
		for _, n := range sizes {
			startTime := time.Now()
			var all sync.WaitGroup
			for range int(n) {
				all.Go(func() { w.measure(b, root, w.exe, "export", "bash", "--pid", pid) })
			}
			all.Wait()
			costs = append(costs, ms(time.Since(startTime)))
		}
		exponent.Add(bench.LocalPort, bench.Exponent(sizes, costs))
		fifty.Add(bench.LocalPort, costs[len(costs)-1])
	}
	reportMetrics(b, exponent, fifty)
}

func benchmarkConnections(b *testing.B, results *bench.Table) {
	var limit syscall.Rlimit
	mustAll(b, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	// A connection is two files of the supervisor, and two of this process, which is its client and its server.
	// One service may not have all of the supervisor's, so that the connections are those of several.
	const services = 8
	largest := min(10000, 0.9*float64(limit.Max/2)-500)
	sizes := []float64{100, 1000, 3000, largest}
	w := newReleaseEnv(b)
	var locals []int
	var config strings.Builder
	upstream := &server{port: startEchoServers(b, 1)[0]}
	for i := range services {
		locals = append(locals, ports.FreePort(b))
		config.WriteString(tcpConfig(fmt.Sprintf("s%d", i), locals[i], upstream))
	}
	root := w.project(config.String())
	w.mustRun(root, "allow")
	span := fmt.Sprintf("connections 100-%.0f", largest)
	opening := results.Measure("growth, opening "+span, "exponent", bench.AtMost(1))
	memory := results.Measure("growth, memory by "+span, "exponent", bench.AtMost(1))
	each := results.Measure("growth, memory for each of the "+span, "kB", bench.Goal{})
	for b.Loop() {
		w.mustRun(root, "start")
		var conns []net.Conn
		var costs, sums []float64
		var took time.Duration
		for _, n := range sizes {
			startTime := time.Now()
			for len(conns) < int(n) {
				conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", locals[len(conns)%services]))
				mustAll(b, err)
				conns = append(conns, conn)
				mustAll(b, echoByte(conn))
			}
			took += time.Since(startTime)
			costs = append(costs, ms(took))
			sums = append(sums, proportionalMemory(b, w.state(root).Supervisor.PID))
		}
		for _, conn := range conns {
			mustAll(b, conn.(*net.TCPConn).SetLinger(0), conn.Close()) // a reset leaves no port in TIME_WAIT
		}
		w.mustRun(root, "stop")
		opening.Add(bench.LocalPort, bench.Exponent(sizes, costs))
		memory.Add(bench.LocalPort, bench.Exponent(sizes, sums))
		each.Add(bench.LocalPort, (sums[len(sums)-1]-sums[0])*1024/(sizes[len(sizes)-1]-sizes[0]))
	}
	reportMetrics(b, opening, memory, each)
}
