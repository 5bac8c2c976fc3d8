//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"syscall"
	"testing"
	"time"
)

// BenchmarkSSHForwardsKilled measures the time from the kill of ssh, or of its login on the server, until a client that started later is
// answered, with two hundred clients a second. Nothing restarts a plain ssh: its figure is the time from its start to the first answer.
func BenchmarkSSHForwardsKilled(b *testing.B) {
	s := sshBenchmark(b)
	upstream := serve(b, "127.0.0.1:0")
	for _, victim := range []struct {
		name string
		of   func(*forwards) []int
	}{
		{"ssh", func(f *forwards) []int { return f.processes(plainSSH) }},
		{"login", func(*forwards) []int { return processTree(s.sshd)[1:] }},
	} {
		b.Run(victim.name, func(b *testing.B) {
			figures := newBenchTable("ms until answered", "clients refused", "clients cut off")
			all := s.alternatives(upstream.port)
			for round := 0; b.Loop(); round++ {
				for _, f := range rotate(all, round) {
					startTime := time.Now()
					f.start()
					if err := retryUntilSuccess(func() error { return checkGreeting(f.addrs[0]) }); err != nil {
						b.Fatalf("%s: %v", f.name, err)
					}
					if f.name == plainSSH {
						figures.add(f.name, ms(time.Since(startTime)))
					} else {
						time.Sleep(1500 * time.Millisecond) // a tunnel that fails within a second of its start is replaced only after a delay
						figures.add(f.name, measureOutage(b, f, func() []int { return victim.of(f) })...)
					}
					f.end()
					s.waitLogouts()
				}
			}
			figures.report(b, "ms until answered")
		})
	}
}

func checkGreeting(addr string) error {
	if answer, err := ask(addr, "you"); answer != "hello you\n" {
		return fmt.Errorf("got %q, %w", answer, err)
	}
	return nil
}

// measureOutage kills processes while clients connect. It returns the time in ms until the first answer, or NaN if there is none, and how
// many clients were refused and cut off.
func measureOutage(b *testing.B, f *forwards, victims func() []int) []float64 {
	b.Helper()
	clients := startGreetingClients(5*time.Millisecond, f.addrs[0])
	eventually(b, "clients are answered", func() bool { return clients.countAnswered(clients.startTime) > 20 })
	for _, pid := range victims() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	killTime := time.Now()
	eventually(b, "clients are answered again", func() bool { return clients.countAnswered(killTime) > 0 || len(f.processes()) == 0 })
	var refused, cutOff float64
	first := math.NaN()
	for _, result := range clients.stop() {
		switch {
		case errors.Is(result.err, syscall.ECONNREFUSED):
			refused++
		case result.answer != "hello you\n":
			cutOff++
		case result.startTime.After(killTime):
			took := ms(result.endTime.Sub(killTime))
			if !(first < took) {
				first = took
			}
		}
	}
	return []float64{first, refused, cutOff}
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
	s := sshBenchmark(b)
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
			b.Run(fmt.Sprintf("%s/%d", direction, streams), func(b *testing.B) {
				figures := newBenchTable("MB/s", "CPU s/GB of localport", "of ssh", "of sshd")
				for round := 0; b.Loop(); round++ {
					for _, f := range rotate(both, round) {
						before, startTime := s.cpuTimes(f), time.Now()
						if err := transfers(f.addrs[0], direction, streams, size/streams); err != nil {
							b.Fatalf("%s: %v", f.name, err)
						}
						took, after := time.Since(startTime), s.cpuTimes(f)
						row := []float64{size / 1e6 / took.Seconds()}
						for i := range after {
							row = append(row, (after[i]-before[i]).Seconds()/(size/1e9))
						}
						figures.add(f.name, row...)
					}
				}
				figures.report(b, "MB/s", "of ssh", "of sshd")
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
	s := sshBenchmark(b)
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
			figures := newBenchTable("µs")
			for round := 0; b.Loop(); round++ {
				for _, f := range rotate(both, round) {
					for range 200 {
						startTime := time.Now()
						if err := measurement.act(f); err != nil {
							b.Fatalf("%s: %v", f.name, err)
						}
						figures.add(f.name, ms(time.Since(startTime))*1000)
					}
				}
			}
			figures.report(b, "µs")
		})
	}
}
