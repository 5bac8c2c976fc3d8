package relay

import (
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// established is a connection on which bytes have gone both ways.
func established(t testing.TB, network string) (*fixture, *duplex, *served) {
	t.Helper()
	r, tn := begin(t), openTunnel(t, network)
	r.Attach(tn)
	client := r.dial()
	server := tn.next(t)
	echo(client, server)
	return r, client, server
}

func TestHalfClosesPassBothWays(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		r, client, server := established(t, network)
		client.finish()
		server.expectEnd()
		server.send("late answer")
		client.expect("late answer")
		server.finish()
		client.expectEnd()
		signal(t, r.quiets)

		r, client, server = established(t, network)
		server.finish()
		client.expectEnd()
		client.send("late question")
		server.expect("late question")
		client.finish()
		server.expectEnd()
		signal(t, r.quiets)
	}
}

func TestResetsPassBothWays(t *testing.T) {
	r, client, server := established(t, "tcp")
	client.reset()
	server.expectReset()
	signal(t, r.quiets)

	for _, network := range []string{"tcp", "unix"} {
		r, client, server := established(t, network)
		if network == "unix" { // which resets when it is closed with bytes unread
			client.send("x")
			eventually(t, "the byte passed", func() bool { return r.Stats().BytesIn == 5 })
			server.Close()
		} else {
			server.reset()
		}
		client.expectReset()
		signal(t, r.quiets)
	}
}

func TestAResetPassesBehindAHalfClose(t *testing.T) {
	r, client, server := established(t, "tcp")
	client.finish()
	server.expectEnd()
	client.reset()
	expectBroken(t, server.duplex)
	signal(t, r.quiets)

	r, client, server = established(t, "tcp")
	server.finish()
	client.expectEnd()
	server.reset()
	expectBroken(t, client)
	signal(t, r.quiets)
}

// expectBroken waits for a reset on a connection whose end has been read already.
func expectBroken(t *testing.T, d *duplex) {
	t.Helper()
	raw, err := d.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := watch(raw); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v, want a reset", err)
	}
}

func TestAnEarlyRefusalReachesAClientThatStillSends(t *testing.T) {
	r, tn := begin(t), openTunnel(t, "tcp")
	r.Attach(tn)
	client := r.dial()
	var sending sync.WaitGroup
	sending.Go(func() {
		block := make([]byte, 1<<20)
		for {
			if _, err := client.Write(block); err != nil {
				return
			}
		}
	})
	server := tn.next(t)
	server.expect("\x00")
	server.send("413 too large")
	client.expect("413 too large")
	server.reset()
	sending.Wait()
	signal(t, r.quiets)
}

// block is what bulk streams are made of; its length is no multiple of any buffer's.
var block = func() []byte {
	b := make([]byte, 1<<20+7)
	source := rand.NewChaCha8([32]byte{})
	_, _ = source.Read(b)
	return b
}()

// pour writes size bytes and ends the stream; soak reads to the end. Both return the checksum.
func pour(t testing.TB, to *duplex, size int) uint32 {
	sum := crc32.NewIEEE()
	for size > 0 {
		b := block[:min(size, len(block))]
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

func soak(t testing.TB, from net.Conn, size int) uint32 {
	sum := crc32.NewIEEE()
	n, err := io.CopyBuffer(sum, struct{ io.Reader }{from}, make([]byte, 1<<18))
	if err != nil || n != int64(size) {
		t.Errorf("got %d of %d bytes, %v", n, size, err)
	}
	return sum.Sum32()
}

func TestBulkArrivesWholeBothWaysAtOnce(t *testing.T) {
	for network, size := range map[string]int{"tcp": 256 << 20, "unix": 64 << 20} {
		t.Run(network, func(t *testing.T) {
			r, client, server := established(t, network)
			exchange(t, client, server.duplex, size)
			signal(t, r.quiets)
			if s := r.Stats(); s.BytesIn != uint64(size)+4 || s.BytesOut != uint64(size)+4 {
				t.Errorf("got %+v", s)
			}
		})
	}
}

func exchange(t *testing.T, client, server *duplex, size int) {
	t.Helper()
	var sums [4]uint32
	var all sync.WaitGroup
	all.Go(func() { sums[0] = pour(t, client, size) })
	all.Go(func() { sums[1] = soak(t, server.socket, size) })
	all.Go(func() { sums[2] = pour(t, server, size) })
	all.Go(func() { sums[3] = soak(t, client.socket, size) })
	all.Wait()
	if sums[0] != sums[1] || sums[2] != sums[3] {
		t.Error("what arrived is not what was sent")
	}
}

func TestASlowReaderHoldsTheSenderBack(t *testing.T) {
	const size = 64 << 20 // more than all the sockets between them hold
	r, client, server := established(t, "tcp")
	sum, sent := crc32.NewIEEE(), 0
	for sent < size {
		_ = server.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		n, err := server.Write(block)
		_, _ = sum.Write(block[:n])
		sent += n
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if sent >= size {
		t.Fatal("the relay takes what nobody reads")
	}
	server.finish()
	if got := soak(t, client.socket, sent); got != sum.Sum32() {
		t.Error("what arrived is not what was sent")
	}
	client.Close()
	signal(t, r.quiets)
}

func TestBytesAreCountedAsTheyPass(t *testing.T) {
	r, client, server := established(t, "tcp")
	var pouring sync.WaitGroup
	pouring.Go(func() { pour(t, server.duplex, 8<<20) })
	if _, err := io.CopyN(io.Discard, struct{ io.Reader }{client}, 4<<20); err != nil {
		t.Fatal(err)
	}
	if n := r.Stats().BytesOut; n < 4<<20 {
		t.Errorf("%d bytes counted of a stream that runs", n)
	}
	soak(t, client.socket, 4<<20)
	pouring.Wait()
}
