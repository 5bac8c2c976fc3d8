package relay

import (
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// establish returns both ends of a connection through a relay on which bytes have gone both ways.
func establish(t testing.TB, network string) (*relayFixture, *testConn, *serverConn) {
	t.Helper()
	r, tn := startRelay(t), openTunnel(t, network)
	r.Attach(tn)
	client := r.dialClient()
	server := tn.nextConn(t)
	pingPong(client, server)
	return r, client, server
}

func TestRelay_PassesHalfClosesBothWays(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		r, client, server := establish(t, network)
		client.closeWrite()
		server.expectEOF()
		server.send("late answer")
		client.expectText("late answer")
		server.closeWrite()
		client.expectEOF()
		receive(t, r.lastClientCh)

		r, client, server = establish(t, network)
		server.closeWrite()
		client.expectEOF()
		client.send("late question")
		server.expectText("late question")
		client.closeWrite()
		server.expectEOF()
		receive(t, r.lastClientCh)
	}
}

func TestRelay_PassesResetsBothWays(t *testing.T) {
	r, client, server := establish(t, "tcp")
	client.reset()
	server.expectReset()
	receive(t, r.lastClientCh)

	for _, network := range []string{"tcp", "unix"} {
		r, client, server := establish(t, network)
		if network == "unix" { // a unix socket resets when it is closed with bytes unread
			client.send("x")
			eventually(t, "the byte passed", func() bool { return r.Stats().BytesIn == 5 })
			server.Close()
		} else {
			server.reset()
		}
		client.expectReset()
		receive(t, r.lastClientCh)
	}
}

func TestCopier_ReportsResetThatWriteHasReturned(t *testing.T) {
	for _, isWriteClosed := range []bool{false, true} {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		peer, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		src := conn.(*net.TCPConn)
		rawSrc, err := src.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var isClosed atomic.Bool
		c := newCopier(src, rawSrc, &isClosed, peer.(*net.TCPConn), nil, func(int) {})
		want := outcomeReset
		if isWriteClosed { // both sides are closed properly, which leaves the connection in the same state
			want = outcomeEOF
			isClosed.Store(true)
			_ = src.CloseWrite()
			peer.Close()
		} else {
			resetConn(peer.(*net.TCPConn))
			// Takes the error, as the write of the other direction would.
			if err := awaitSocketError(rawSrc); !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("got %v, want a reset", err)
			}
		}
		if got := c.read(); got != want {
			t.Errorf("its own side closed: %v: got outcome %d, want %d", isWriteClosed, got, want)
		}
		src.Close()
	}
}

func TestRelay_PassesResetAfterHalfClose(t *testing.T) {
	r, client, server := establish(t, "tcp")
	client.closeWrite()
	server.expectEOF()
	client.reset()
	expectSocketError(t, server.testConn)
	receive(t, r.lastClientCh)

	r, client, server = establish(t, "tcp")
	server.closeWrite()
	client.expectEOF()
	server.reset()
	expectSocketError(t, client)
	receive(t, r.lastClientCh)
}

// expectSocketError waits for a reset on a connection whose EOF has been read already.
func expectSocketError(t *testing.T, c *testConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := awaitSocketError(raw); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v, want a reset", err)
	}
}

func TestRelay_PassesResponseToClientThatIsStillSending(t *testing.T) {
	r, tn := startRelay(t), openTunnel(t, "tcp")
	r.Attach(tn)
	client := r.dialClient()
	var sending sync.WaitGroup
	sending.Go(func() {
		block := make([]byte, 1<<20)
		for {
			if _, err := client.Write(block); err != nil {
				return
			}
		}
	})
	server := tn.nextConn(t)
	server.expectText("\x00")
	server.send("413 too large")
	client.expectText("413 too large")
	server.reset()
	sending.Wait()
	receive(t, r.lastClientCh)
}

// bulkBlock is what bulk transfers repeat; its length is no multiple of a buffer size.
var bulkBlock = func() []byte {
	b := make([]byte, 1<<20+7)
	source := rand.NewChaCha8([32]byte{})
	_, _ = source.Read(b)
	return b
}()

// writeBulk writes size bytes and half-closes; it returns their checksum.
func writeBulk(t testing.TB, to *testConn, size int) uint32 {
	sum := crc32.NewIEEE()
	for size > 0 {
		b := bulkBlock[:min(size, len(bulkBlock))]
		_, _ = sum.Write(b)
		if _, err := to.Write(b); err != nil {
			t.Errorf("%d bytes before the end: %v", size, err)
			return 0
		}
		size -= len(b)
	}
	_ = to.CloseWrite()
	return sum.Sum32()
}

// readBulk reads to the end and returns the checksum.
func readBulk(t testing.TB, from net.Conn, size int) uint32 {
	sum := crc32.NewIEEE()
	n, err := io.CopyBuffer(sum, struct{ io.Reader }{from}, make([]byte, 1<<18))
	if err != nil || n != int64(size) {
		t.Errorf("got %d of %d bytes, %v", n, size, err)
	}
	return sum.Sum32()
}

func TestRelay_CopiesBulkBothWaysAtOnce(t *testing.T) {
	for network, size := range map[string]int{"tcp": 256 << 20, "unix": 64 << 20} {
		t.Run(network, func(t *testing.T) {
			r, client, server := establish(t, network)
			exchangeBulk(t, client, server.testConn, size)
			receive(t, r.lastClientCh)
			if s := r.Stats(); s.BytesIn != uint64(size)+4 || s.BytesOut != uint64(size)+4 {
				t.Errorf("got %+v", s)
			}
		})
	}
}

func exchangeBulk(t *testing.T, client, server *testConn, size int) {
	t.Helper()
	var sums [4]uint32
	var all sync.WaitGroup
	all.Go(func() { sums[0] = writeBulk(t, client, size) })
	all.Go(func() { sums[1] = readBulk(t, server.socket, size) })
	all.Go(func() { sums[2] = writeBulk(t, server, size) })
	all.Go(func() { sums[3] = readBulk(t, client.socket, size) })
	all.Wait()
	if sums[0] != sums[1] || sums[2] != sums[3] {
		t.Error("what arrived is not what was sent")
	}
}

func TestRelay_SlowReaderBlocksSender(t *testing.T) {
	const size = 64 << 20 // more than all socket buffers together hold
	r, client, server := establish(t, "tcp")
	sum, sent := crc32.NewIEEE(), 0
	for sent < size {
		_ = server.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		n, err := server.Write(bulkBlock)
		_, _ = sum.Write(bulkBlock[:n])
		sent += n
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if sent >= size {
		t.Fatal("the relay reads on although the client reads nothing")
	}
	server.closeWrite()
	if got := readBulk(t, client.socket, sent); got != sum.Sum32() {
		t.Error("what arrived is not what was sent")
	}
	client.Close()
	receive(t, r.lastClientCh)
}

func TestRelay_CountsBytesDuringTransfer(t *testing.T) {
	r, client, server := establish(t, "tcp")
	var pouring sync.WaitGroup
	pouring.Go(func() { writeBulk(t, server.testConn, 8<<20) })
	if _, err := io.CopyN(io.Discard, struct{ io.Reader }{client}, 4<<20); err != nil {
		t.Fatal(err)
	}
	if n := r.Stats().BytesOut; n < 4<<20 {
		t.Errorf("%d bytes counted during the transfer", n)
	}
	readBulk(t, client.socket, 4<<20)
	pouring.Wait()
}
