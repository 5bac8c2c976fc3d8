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

// Every benchmark measures its peers in the same run, in turns, and reports medians: what counts is the ratio.

// BenchmarkIdle tells what an idle connection costs: files, and bytes of heap and stacks. The client's and the server's
// own sockets are in the process too; what these take without a relay is taken off.
func BenchmarkIdle(b *testing.B) {
	for b.Loop() {
		n := affordable(b, 2000)
		bare := footprint(b, n, func(l *lane) string { return l.server })
		relayed := footprint(b, n, func(l *lane) string { return l.relay })
		b.ReportMetric(float64(relayed.files-bare.files)/float64(n), "files/conn")
		b.ReportMetric(float64(relayed.heap-bare.heap)/float64(n), "heap-B/conn")
		b.ReportMetric(float64(relayed.stack-bare.stack)/float64(n), "stack-B/conn")
	}
}

type cost struct{ files, heap, stack int }

func footprint(b *testing.B, n int, way func(*lane) string) cost {
	l := openLane(b)
	defer l.close()
	before := spent(b)
	conns := make([]*net.TCPConn, n)
	for i := range conns {
		conns[i] = dialLane(b, way(l))
		roundTrip(b, conns[i], make([]byte, 16))
	}
	after := spent(b)
	for _, conn := range conns {
		_ = conn.Close()
	}
	return cost{after.files - before.files, after.heap - before.heap, after.stack - before.stack}
}

func spent(b *testing.B) cost {
	runtime.GC() // also shrinks stacks
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	all, _ := files(b)
	return cost{all, int(m.HeapAlloc), int(m.StackInuse)}
}

// BenchmarkThroughput pulls 256 MB at a time.
func BenchmarkThroughput(b *testing.B) {
	l := openLane(b)
	defer l.close()
	const size = 256 << 20
	compare(b, l, "MB/s", func(addr string) float64 {
		conn := dialLane(b, addr)
		defer func() { _ = conn.Close() }()
		began := time.Now()
		if _, err := conn.Write([]byte{'b'}); err != nil {
			b.Fatal(err)
		}
		if n, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{io.LimitReader(conn, size)}, make([]byte, 1<<18)); n != size {
			b.Fatal(n, err)
		}
		return size / 1e6 / time.Since(began).Seconds()
	})
}

// BenchmarkRoundTrip asks and answers 64 bytes on one connection, in round trips a second.
func BenchmarkRoundTrip(b *testing.B) {
	l := openLane(b)
	defer l.close()
	const trips = 5000
	compare(b, l, "trips/s", func(addr string) float64 {
		conn := dialLane(b, addr)
		defer func() { _ = conn.Close() }()
		text := make([]byte, 64)
		roundTrip(b, conn, text)
		began := time.Now()
		for range trips {
			roundTrip(b, conn, text)
		}
		return trips / time.Since(began).Seconds()
	})
}

// BenchmarkConnect connects, asks, is answered, and closes, in connections a second.
func BenchmarkConnect(b *testing.B) {
	l := openLane(b)
	defer l.close()
	const conns = 500
	compare(b, l, "conns/s", func(addr string) float64 {
		began := time.Now()
		for range conns {
			conn := dialLane(b, addr)
			roundTrip(b, conn, make([]byte, 64))
			_ = conn.SetLinger(0) // leaves no port behind
			_ = conn.Close()
		}
		return conns / time.Since(began).Seconds()
	})
}

// compare measures the server alone, through a relay of io.Copy, and through ours.
func compare(b *testing.B, l *lane, unit string, measure func(addr string) float64) {
	var direct, plain, ours []float64
	for b.Loop() {
		for range 7 {
			direct = append(direct, measure(l.server))
			plain = append(plain, measure(l.plain))
			ours = append(ours, measure(l.relay))
		}
	}
	b.ReportMetric(median(ours), unit)
	b.ReportMetric(median(ours)/median(direct), "of-direct")
	b.ReportMetric(median(ours)/median(plain), "of-io.Copy")
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// lane is a server with two relays before it.
type lane struct {
	server, plain, relay string
	close                func()
}

func openLane(b *testing.B) *lane {
	var running sync.WaitGroup
	server := listenLane(b, &running, serveLane)
	l := &lane{server: server.Addr().String()}
	plain := listenLane(b, &running, func(conn *net.TCPConn) { plainRelay(conn, l.server) })
	l.plain = plain.Addr().String()
	ls, err := Bind([]netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		b.Fatal(err)
	}
	l.relay = ls.Addrs()[0].String()
	r := New(ls, Options{})
	r.Attach(&dialler{to: l.server})
	l.close = func() {
		_ = r.Close()
		plain.Close()
		server.Close()
		running.Wait()
	}
	return l
}

func listenLane(b *testing.B, running *sync.WaitGroup, serve func(*net.TCPConn)) net.Listener {
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

// serveLane echoes; to a 'b' it answers with bulk.
func serveLane(conn *net.TCPConn) {
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
			_, err = conn.Write(block)
		}
		if err != nil {
			return
		}
	}
}

func plainRelay(conn *net.TCPConn, to string) {
	up, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer up.Close()
	var forth sync.WaitGroup
	forth.Go(func() {
		_, _ = io.Copy(up, conn)
		_ = up.(*net.TCPConn).CloseWrite()
	})
	_, _ = io.Copy(conn, up)
	_ = conn.Close()
	forth.Wait()
}

func dialLane(b *testing.B, addr string) *net.TCPConn {
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
