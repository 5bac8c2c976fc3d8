package relay

import (
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// Each benchmark measures a direct connection, io.Copy and the relay in turn, and reports medians: their ratio counts.

// BenchmarkIdle measures what an idle connection costs: files, and bytes of heap and stacks. The client's and the server's
// own sockets are in the process too; what they cost without a relay is subtracted.
func BenchmarkIdle(b *testing.B) {
	for b.Loop() {
		n := affordableConns(b, 2000)
		bare := measureConns(b, n, func(l *benchServers) string { return l.server })
		relayed := measureConns(b, n, func(l *benchServers) string { return l.relay })
		b.ReportMetric(float64(relayed.files-bare.files)/float64(n), "files/conn")
		b.ReportMetric(float64(relayed.heap-bare.heap)/float64(n), "heap-B/conn")
		b.ReportMetric(float64(relayed.stack-bare.stack)/float64(n), "stack-B/conn")
	}
}

type resourceUse struct{ files, heap, stack int }

func measureConns(b *testing.B, n int, addr func(*benchServers) string) resourceUse {
	l := startBenchServers(b)
	defer l.close()
	before := readResourceUse(b)
	conns := make([]*net.TCPConn, n)
	for i := range conns {
		conns[i] = dialBench(b, addr(l))
		roundTrip(b, conns[i], make([]byte, 16))
	}
	after := readResourceUse(b)
	for _, conn := range conns {
		_ = conn.Close()
	}
	return resourceUse{after.files - before.files, after.heap - before.heap, after.stack - before.stack}
}

func readResourceUse(b *testing.B) resourceUse {
	runtime.GC() // also shrinks stacks
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	all, _ := countFiles(b)
	return resourceUse{all, int(m.HeapAlloc), int(m.StackInuse)}
}

// BenchmarkThroughput receives 256 MB at a time.
func BenchmarkThroughput(b *testing.B) {
	l := startBenchServers(b)
	defer l.close()
	const size = 256 << 20
	compareRelays(b, l, "MB/s", func(addr string) float64 {
		conn := dialBench(b, addr)
		defer func() { _ = conn.Close() }()
		start := time.Now()
		if _, err := conn.Write([]byte{'b'}); err != nil {
			b.Fatal(err)
		}
		if n, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{io.LimitReader(conn, size)}, make([]byte, 1<<18)); n != size {
			b.Fatal(n, err)
		}
		return size / 1e6 / time.Since(start).Seconds()
	})
}

// BenchmarkRoundTrip exchanges 64 bytes on one connection, in round trips a second.
func BenchmarkRoundTrip(b *testing.B) {
	l := startBenchServers(b)
	defer l.close()
	const trips = 5000
	compareRelays(b, l, "trips/s", func(addr string) float64 {
		conn := dialBench(b, addr)
		defer func() { _ = conn.Close() }()
		text := make([]byte, 64)
		roundTrip(b, conn, text)
		start := time.Now()
		for range trips {
			roundTrip(b, conn, text)
		}
		return trips / time.Since(start).Seconds()
	})
}

// BenchmarkConnect connects, exchanges 64 bytes and closes, in connections a second.
func BenchmarkConnect(b *testing.B) {
	l := startBenchServers(b)
	defer l.close()
	const conns = 500
	compareRelays(b, l, "conns/s", func(addr string) float64 {
		start := time.Now()
		for range conns {
			conn := dialBench(b, addr)
			roundTrip(b, conn, make([]byte, 64))
			_ = conn.SetLinger(0) // leaves no port in TIME_WAIT
			_ = conn.Close()
		}
		return conns / time.Since(start).Seconds()
	})
}

// compareRelays measures the server directly, through a relay that uses io.Copy, and through a Relay.
func compareRelays(b *testing.B, l *benchServers, unit string, measure func(addr string) float64) {
	var direct, ioCopy, relay []float64
	for b.Loop() {
		for range 7 {
			direct = append(direct, measure(l.server))
			ioCopy = append(ioCopy, measure(l.ioCopyRelay))
			relay = append(relay, measure(l.relay))
		}
	}
	b.ReportMetric(median(relay), unit)
	b.ReportMetric(median(relay)/median(direct), "of-direct")
	b.ReportMetric(median(relay)/median(ioCopy), "of-io.Copy")
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// benchServers are the addresses of a server and of two relays in front of it.
type benchServers struct {
	server, ioCopyRelay, relay string
	close                      func()
}

func startBenchServers(b *testing.B) *benchServers {
	var running sync.WaitGroup
	server := serveBench(b, &running, serveEchoOrBulk)
	l := &benchServers{server: server.Addr().String()}
	ioCopyListener := serveBench(b, &running, func(conn *net.TCPConn) { copyWithIOCopy(conn, l.server) })
	l.ioCopyRelay = ioCopyListener.Addr().String()
	ls, err := BindListeners([]netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		b.Fatal(err)
	}
	l.relay = ls.Addrs()[0].String()
	r := New(ls, Options{})
	r.Attach(&dialTunnel{addr: l.server})
	l.close = func() {
		_ = r.Close()
		ioCopyListener.Close()
		server.Close()
		running.Wait()
	}
	return l
}

func serveBench(b *testing.B, running *sync.WaitGroup, serve func(*net.TCPConn)) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				serve(conn.(*net.TCPConn))
			})
		}
	})
	return l
}

// serveEchoOrBulk echoes; after a 'b' it sends bulk until the client closes.
func serveEchoOrBulk(conn *net.TCPConn) {
	buf := make([]byte, 64)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		if buf[0] != 'b' {
			_, err = conn.Write(buf[:n])
		}
		for buf[0] == 'b' && err == nil {
			_, err = conn.Write(bulkBlock)
		}
		if err != nil {
			return
		}
	}
}

func copyWithIOCopy(conn *net.TCPConn, to string) {
	up, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer up.Close()
	var toUpstream sync.WaitGroup
	toUpstream.Go(func() {
		_, _ = io.Copy(up, conn)
		_ = up.(*net.TCPConn).CloseWrite()
	})
	_, _ = io.Copy(conn, up)
	_ = conn.Close()
	toUpstream.Wait()
}

func dialBench(b *testing.B, addr string) *net.TCPConn {
	conn, err := dialTCP(addr)
	if err != nil {
		b.Fatal(err)
	}
	return conn
}

func roundTrip(b *testing.B, conn *net.TCPConn, text []byte) {
	if _, err := conn.Write(text); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(conn, text); err != nil {
		b.Fatal(err)
	}
}
