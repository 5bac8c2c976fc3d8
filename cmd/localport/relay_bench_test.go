//go:build linux

package main

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/bench"
	"github.com/localport-sh/localport/testdata/ports"
)

// The programs that a relay is compared with.
const (
	direct = "direct" // no relay
	socat  = "socat"
)

// relayBench are the addresses of a server: its own, that of a service of the technology "tcp", and that of a socat.
func relayBench(b *testing.B, serverPort int) (addrs map[string]string) {
	b.Helper()
	w := newReleaseEnv(b)
	local := ports.FreePort(b)
	root := w.project(tcpConfig("web", local, &server{port: serverPort}))
	w.mustRun(root, "allow")
	w.mustRun(root, "start")
	b.Cleanup(func() { w.mustRun(root, "stop") })
	addrs = map[string]string{direct: fmt.Sprintf("127.0.0.1:%d", serverPort), bench.LocalPort: fmt.Sprintf("127.0.0.1:%d", local)}
	if socatProgram.Missing() == "" {
		port := ports.FreePort(b)
		addrs[socat] = fmt.Sprintf("127.0.0.1:%d", port)
		startProgram(b, []string{"socat", fmt.Sprintf("TCP-LISTEN:%d,bind=127.0.0.1,reuseaddr,fork,backlog=128", port), fmt.Sprintf("TCP:127.0.0.1:%d", serverPort)})
		mustAll(b, retryUntilSuccess(func() error {
			conn, err := net.Dial("tcp", addrs[socat])
			if err == nil {
				conn.Close()
			}
			return err
		}))
	}
	return addrs
}

// BenchmarkRelay measures what the relay adds between a client and a server on loopback: throughput, the round trip of a byte, and
// connections.
func BenchmarkRelay(b *testing.B) {
	results := resultsOf(b)
	b.Run("download", func(b *testing.B) {
		const size = 1 << 30
		addrs := relayBench(b, startBulkServer(b))
		c := results.Compare("relay, download", "MB/s", bench.Peer{Name: socat, Goal: bench.AtLeast(2)}, bench.Peer{Name: direct})
		needPeers([]*bench.Comparison{c}, socatProgram)
		for round := 0; b.Loop(); round++ {
			for _, name := range c.Order(round) {
				startTime := time.Now()
				mustAll(b, transfer(addrs[name], "download", size))
				c.Add(name, size/1e6/time.Since(startTime).Seconds())
			}
		}
		reportMetrics(b, c)
	})
	b.Run("latency", func(b *testing.B) {
		addrs := relayBench(b, startEchoServers(b, 1)[0])
		added := results.Compare("relay, added to the round trip of a byte", "µs", bench.Peer{Name: socat, Goal: bench.AtMost(0.5)})
		trip := results.Compare("relay, round trip of a byte", "µs", bench.Peer{Name: socat}, bench.Peer{Name: direct})
		needPeers([]*bench.Comparison{added, trip}, socatProgram)
		conns := map[string]net.Conn{}
		for name, addr := range addrs {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			conns[name] = conn
		}
		for round := 0; b.Loop(); round++ {
			figures := map[string]float64{}
			for _, name := range trip.Order(round) {
				figures[name] = medianOf(b, 3000, func() error { return echoByte(conns[name]) })
				trip.Add(name, figures[name])
			}
			for _, name := range added.Order(round) {
				added.Add(name, figures[name]-figures[direct])
			}
		}
		reportMetrics(b, added, trip)
	})
	b.Run("connections", func(b *testing.B) {
		const conns = 500
		addrs := relayBench(b, startEchoServers(b, 1)[0])
		c := results.Compare("relay, connections with a byte each way", "a second", bench.Peer{Name: socat, Goal: bench.AtLeast(2)}, bench.Peer{Name: direct})
		needPeers([]*bench.Comparison{c}, socatProgram)
		for round := 0; b.Loop(); round++ {
			for _, name := range c.Order(round) {
				startTime := time.Now()
				for range conns {
					mustAll(b, echoOnce(addrs[name]))
				}
				c.Add(name, conns/time.Since(startTime).Seconds())
			}
		}
		reportMetrics(b, c)
	})
}
