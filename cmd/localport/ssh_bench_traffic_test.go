//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/bench"
)

// BenchmarkSSHForwardsKilled measures the time from the kill of ssh, or of its login on the server, until a client that started later is
// answered, with two hundred clients a second, and how many clients failed. Nothing restarts a plain ssh: its figure is the time from its
// start to the first answer. The LocalPort of PyPI is measured in the first round only, because it takes longer than
// outageLimit.
func BenchmarkSSHForwardsKilled(b *testing.B) {
	s, results := sshBenchmark(b), resultsOf(b)
	upstream := serve(b, "127.0.0.1:0")
	for _, victim := range []struct {
		name string
		of   func(*forwards) []int
	}{
		{"ssh", func(f *forwards) []int { return f.processes(plainSSH) }},
		{"login", func(*forwards) []int { return processTree(s.sshd)[1:] }},
	} {
		b.Run(victim.name, func(b *testing.B) {
			answered := results.Compare(victim.name+" killed, time until a client is answered", "ms", bench.Peer{Name: plainSSH, Goal: bench.AtMost(1.2)}, bench.Peer{Name: autoSSH}, bench.Peer{Name: pypiLocalport})
			refused := results.Measure(victim.name+" killed, clients that fail", "clients", bench.AtMost(0))
			theirs := map[string]*bench.Comparison{}
			for _, name := range []string{autoSSH, pypiLocalport} {
				theirs[name] = results.Measure(victim.name+" killed, clients that fail with "+name, "clients", bench.Goal{})
			}
			needPeers([]*bench.Comparison{answered}, autosshProgram, pythonLocalport)
			all := append(s.alternatives(upstream.port), s.pythonLocalport(upstream.port))
			for round := 0; b.Loop(); round++ {
				for _, name := range answered.Order(round) {
					if name == pypiLocalport && round > 0 {
						continue
					}
					f := byName(all, name)
					startTime := time.Now()
					f.start()
					if err := retryUntilSuccess(func() error { return checkGreeting(f.addrs[0]) }); err != nil {
						b.Fatalf("%s: %v", f.name, err)
					}
					if name == plainSSH {
						answered.Add(name, ms(time.Since(startTime)))
					} else {
						time.Sleep(1500 * time.Millisecond) // a tunnel that fails within a second of its start is replaced only after a delay
						took, failed := measureOutage(b, f, func() []int { return victim.of(f) })
						answered.Add(name, took)
						if name == bench.LocalPort {
							refused.Add(bench.LocalPort, failed)
						} else {
							theirs[name].Add(bench.LocalPort, failed)
						}
					}
					f.end()
					s.waitLogouts()
				}
			}
			reportMetrics(b, answered, refused, theirs[autoSSH], theirs[pypiLocalport])
		})
	}
}

func checkGreeting(addr string) error {
	if answer, err := ask(addr, "you"); answer != "hello you\n" {
		return fmt.Errorf("got %q, %w", answer, err)
	}
	return nil
}

// outageLimit is how long a benchmark waits for the end of an outage.
const outageLimit = 30 * time.Second

// measureOutage kills processes while clients connect. It returns the time in ms until the first answer to a client that started after the
// kill, and how many clients failed: refused, or cut off after the kill. A client that was connected when its tunnel was killed is not counted. The
// time is that of outageLimit if no client was answered.
func measureOutage(b *testing.B, f *forwards, victims func() []int) (took, failed float64) {
	b.Helper()
	clients := startGreetingClients(5*time.Millisecond, f.addrs[0])
	eventually(b, "clients are answered", func() bool { return clients.countAnswered(clients.startTime) > 20 })
	for _, pid := range victims() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	killTime := time.Now()
	for clients.countAnswered(killTime) == 0 && time.Since(killTime) < outageLimit {
		time.Sleep(2 * time.Millisecond)
	}
	took = ms(outageLimit)
	for _, result := range clients.stop() {
		switch {
		case errors.Is(result.err, syscall.ECONNREFUSED):
			failed++
		case !result.startTime.After(killTime):
		case result.answer != "hello you\n":
			failed++
		default:
			took = min(took, ms(result.endTime.Sub(killTime)))
		}
	}
	return took, failed
}

// bulkRequest is what a client sends to a bulk server: "d" for download or "u" for upload, and the number of bytes.
type bulkRequest [9]byte

func newBulkRequest(direction string, size int) (o bulkRequest) {
	o[0] = direction[0]
	binary.BigEndian.PutUint64(o[1:], uint64(size))
	return o
}

// startBulkServer starts a server that sends or receives the requested bytes, then sends one more, and returns its port.
func startBulkServer(b *testing.B) (port int) {
	b.Helper()
	return startServer(b, "127.0.0.1:0", func(conn net.Conn) {
		var o bulkRequest
		if _, err := io.ReadFull(conn, o[:]); err != nil {
			return
		}
		move := sendBytes
		if o[0] == 'u' {
			move = receiveBytes
		}
		if move(conn, int(binary.BigEndian.Uint64(o[1:]))) == nil {
			_, _ = conn.Write([]byte{'.'})
		}
	}).port
}

const bulkBuffer = 256 << 10

func sendBytes(conn net.Conn, size int) error {
	buf := make([]byte, bulkBuffer)
	for size > 0 {
		n, err := conn.Write(buf[:min(size, len(buf))])
		if err != nil {
			return err
		}
		size -= n
	}
	return nil
}

func receiveBytes(conn net.Conn, size int) error {
	buf := make([]byte, bulkBuffer)
	for size > 0 {
		n, err := conn.Read(buf[:min(size, len(buf))])
		if err != nil {
			return err
		}
		size -= n
	}
	return nil
}

// transfer downloads or uploads bytes over one connection, and returns when all have arrived.
func transfer(addr, direction string, size int) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	o := newBulkRequest(direction, size)
	if _, err := conn.Write(o[:]); err != nil {
		return err
	}
	move := receiveBytes
	if direction == "upload" {
		move = sendBytes
	}
	if err := move(conn, size); err != nil {
		return err
	}
	return receiveBytes(conn, 1)
}

// BenchmarkSSHForwardsThroughput transfers bytes over one connection and over eight at once, and measures the CPU time of each program.
// autossh is left out, because its ssh carries the bytes. If client, server and forwards share few cores, the CPU time decides.
func BenchmarkSSHForwardsThroughput(b *testing.B) {
	const size = 512 << 20
	s, results := sshBenchmark(b), resultsOf(b)
	both := s.alternatives(startBulkServer(b))[:2]
	for _, f := range both {
		f.start()
		defer f.end()
		if err := retryUntilSuccess(func() error { return transfer(f.addrs[0], "download", 1) }); err != nil {
			b.Fatalf("%s: %v", f.name, err)
		}
	}
	for _, direction := range []string{"download", "upload"} {
		for _, streams := range []int{1, 8} {
			if streams > 1 && table != nil {
				continue
			}
			b.Run(fmt.Sprintf("%s/%d", direction, streams), func(b *testing.B) {
				name := fmt.Sprintf("ssh, %s, streams: %d", direction, streams)
				rate := results.Compare(name, "MB/s", bench.Peer{Name: plainSSH, Goal: bench.AtLeast(0.95)})
				cpu := results.Compare(name+", CPU of all processes", "s/GB", bench.Peer{Name: plainSSH})
				own := results.Measure(name+", of it localport's own", "s/GB", bench.Goal{})
				for round := 0; b.Loop(); round++ {
					for _, program := range rate.Order(round) {
						f := byName(both, program)
						before, startTime := s.cpuTimes(f), time.Now()
						mustAll(b, transfers(f.addrs[0], direction, streams, size/streams))
						took, after := time.Since(startTime), s.cpuTimes(f)
						rate.Add(program, size/1e6/took.Seconds())
						sum := 0.0
						for i := range after {
							sum += (after[i] - before[i]).Seconds() / (size / 1e9)
						}
						cpu.Add(program, sum)
						if program == bench.LocalPort {
							own.Add(program, (after[0]-before[0]).Seconds()/(size/1e9))
						}
					}
				}
				reportMetrics(b, rate, cpu, own)
			})
		}
	}
}

// cpuTimes returns the CPU times of localport, ssh and sshd so far. That of sshd includes all alternatives, of which only one is in use.
func (s *sshBench) cpuTimes(f *forwards) [3]time.Duration {
	ssh := cpuTime(f.processes(plainSSH))
	return [3]time.Duration{cpuTime(f.processes()) - ssh, ssh, cpuTime(processTree(s.sshd))}
}

func transfers(addr, direction string, streams, size int) error {
	errCh := make(chan error)
	for range streams {
		go func() { errCh <- transfer(addr, direction, size) }()
	}
	var all []error
	for range streams {
		all = append(all, <-errCh)
	}
	return errors.Join(all...)
}

// BenchmarkSSHForwardsLatency measures the round trip of a byte, and of a connection with its first byte.
func BenchmarkSSHForwardsLatency(b *testing.B) {
	s, results := sshBenchmark(b), resultsOf(b)
	both := s.alternatives(startEchoServers(b, 1)...)[:2]
	conns := map[*forwards]net.Conn{}
	for _, f := range both {
		f.start()
		defer f.end()
		f.waitAnswers(b)
		conn, err := net.Dial("tcp", f.addrs[0])
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		conns[f] = conn
	}
	for _, measurement := range []struct {
		name string
		act  func(f *forwards) error
	}{
		{"byte", func(f *forwards) error { return echoByte(conns[f]) }},
		{"connection", func(f *forwards) error { return echoOnce(f.addrs[0]) }},
	} {
		b.Run(measurement.name, func(b *testing.B) {
			c := results.Compare("ssh, round trip of a "+measurement.name, "µs", bench.Peer{Name: plainSSH})
			for round := 0; b.Loop(); round++ {
				for _, name := range c.Order(round) {
					c.Add(name, medianOf(b, 200, func() error { return measurement.act(byName(both, name)) }))
				}
			}
			reportMetrics(b, c)
		})
	}
}

// BenchmarkSSHForwardsFirstByte measures the time from a client's connect until the first byte of a server that speaks first.
func BenchmarkSSHForwardsFirstByte(b *testing.B) {
	s, results := sshBenchmark(b), resultsOf(b)
	both := s.alternatives(serveBanner(b).port)[:2]
	for _, f := range both {
		f.start()
		defer f.end()
		mustAll(b, retryUntilSuccess(func() error { return firstByte(f.addrs[0]) }))
	}
	c := results.Compare("ssh, server speaks first, first byte", "µs", bench.Peer{Name: plainSSH, Goal: bench.AtMost(0.25)})
	for round := 0; b.Loop(); round++ {
		for _, name := range c.Order(round) {
			c.Add(name, medianOf(b, 15, func() error { return firstByte(byName(both, name).addrs[0]) }))
		}
	}
	reportMetrics(b, c)
}

// firstByte connects and waits for a byte.
func firstByte(addr string) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	return receiveBytes(conn, 1)
}

// medianOf calls act n times and returns the median of the times that it takes, in µs.
func medianOf(b *testing.B, n int, act func() error) float64 {
	b.Helper()
	var all []float64
	for range n {
		startTime := time.Now()
		if err := act(); err != nil {
			b.Fatal(err)
		}
		all = append(all, ms(time.Since(startTime))*1000)
	}
	return bench.Median(all)
}
