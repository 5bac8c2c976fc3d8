package builtin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/probetest"
)

// startHostileServer starts a server that calls attack for each connection, in a goroutine, and discards what it receives.
func startHostileServer(t *testing.T, attack func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer conn.Close()
				var reader sync.WaitGroup
				reader.Go(func() { _, _ = io.Copy(io.Discard, conn); conn.Close() })
				attack(conn)
				conn.Close()
				reader.Wait()
			})
		}
	})
	t.Cleanup(func() { ln.Close(); conns.Wait() })
	return ln.Addr().String()
}

// repeat sends the same bytes until the client closes, after what comes first.
func repeat(first string, chunk []byte) func(net.Conn) {
	return func(conn net.Conn) {
		_, err := io.WriteString(conn, first)
		for err == nil {
			_, err = conn.Write(chunk)
		}
	}
}

// TestTypes_AreNotHarmedByAHostileServer is about every check: whatever a server sends, the check ends in time, and uses little memory.
func TestTypes_AreNotHarmedByAHostileServer(t *testing.T) {
	const timeout, margin, maxMemory = time.Second, 5 * time.Second, 96 << 20
	attacks := map[string]func(net.Conn){
		"endless zeros":        repeat("", make([]byte, 64<<10)),
		"endless text":         repeat("", bytes.Repeat([]byte("a"), 64<<10)),
		"endless lines":        repeat("", bytes.Repeat([]byte("a\r\n"), 20<<10)),
		"lengths of 2 GB":      repeat("", bytes.Repeat([]byte{0x7f, 0xff, 0xff, 0xff}, 16<<10)),
		"a huge Redis string":  repeat("$2147483647\r\n", bytes.Repeat([]byte("a"), 64<<10)),
		"a deep Redis array":   repeat("", bytes.Repeat([]byte("*1\r\n"), 16<<10)),
		"endless HTTP headers": repeat("HTTP/1.1 200 OK\r\n", bytes.Repeat([]byte("X-A: b\r\n"), 8<<10)),
		"an endless HTTP body": repeat("HTTP/1.1 200 OK\r\n\r\n", bytes.Repeat([]byte("a"), 64<<10)),
		"endless HTTP redirects": func(conn net.Conn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")
		},
		"a huge PostgreSQL error": repeat("E\x7f\xff\xff\xff", bytes.Repeat([]byte("Mtext\x00"), 10<<10)),
		"a huge MySQL handshake":  repeat("\xff\xff\xff\x00\x0a", bytes.Repeat([]byte("8"), 64<<10)),
		"a huge HTTP/2 frame":     repeat("\xff\xff\xff\x04\x00\x00\x00\x00\x00", make([]byte, 64<<10)),
		"one byte at a time": func(conn net.Conn) {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for _, err := conn.Write([]byte("H")); err == nil; _, err = conn.Write([]byte("H")) {
				<-tick.C
			}
		},
		"silence":          func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) },
		"escape sequences": repeat("\x1b]0;owned\x07\x1b[2J-ERR \x1b[31mred\r\n", []byte("\x1b[2J\r\n")),
	}
	for attack, run := range attacks {
		addr := startHostileServer(t, run)
		for _, kind := range types {
			if kind.Name == "command" {
				continue // what the program of the user does with an answer is its own
			}
			settings := project.Settings{}
			if kind.Name == "postgres" {
				settings["user"], settings["sslmode"] = "app", "prefer"
			}
			stop, peak := watchMemory()
			startTime := time.Now()
			err := probetest.CheckThrough(t, kind, probetest.Dialer{To: addr}, settings, timeout)
			took := time.Since(startTime)
			close(stop)
			if used := <-peak; used > maxMemory {
				t.Errorf("%s, %s: %d MB of memory", kind.Name, attack, used>>20)
			}
			if took > timeout+margin {
				t.Errorf("%s, %s: took %v", kind.Name, attack, took)
			}
			if err != nil && !errors.Is(err, context.DeadlineExceeded) && len(probe.Reason(err)) > 4<<10 {
				t.Errorf("%s, %s: a reason of %d bytes", kind.Name, attack, len(probe.Reason(err)))
			}
			if err != nil && strings.ContainsRune(probe.Reason(err), '\n') {
				t.Errorf("%s, %s: the reason has several lines: %q", kind.Name, attack, probe.Reason(err))
			}
		}
	}
}

// watchMemory measures by how much the heap grows until stop is closed.
func watchMemory() (stop chan struct{}, peak chan uint64) {
	stop, peak = make(chan struct{}), make(chan uint64)
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		most := uint64(0)
		for {
			var now runtime.MemStats
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapAlloc-min(before.HeapAlloc, now.HeapAlloc))
			select {
			case <-tick.C:
			case <-stop:
				peak <- most
				return
			}
		}
	}()
	return stop, peak
}
