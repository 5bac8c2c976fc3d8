package spdy

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"k8s.io/streaming/pkg/httpstream"
	peer "k8s.io/streaming/pkg/httpstream/spdy"
)

// A goroutine of the peer's library runs for a second after the connection has ended.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/moby/spdystream.(*Connection).shutdown"))
}

// connectToPeer opens a connection to the library with which container runtimes serve port forwards.
func connectToPeer(t *testing.T, handle func(httpstream.Stream)) *Conn {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	local, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	remote, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	server, err := peer.NewServerConnection(remote, func(s httpstream.Stream, replied <-chan struct{}) error {
		if s.Headers().Get("refuse") != "" {
			return errors.New("refused")
		}
		serving.Go(func() {
			<-replied
			handle(s)
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	c := NewConn(local, 64<<10, NewBufferReserve(1<<20))
	t.Cleanup(func() {
		_ = c.Close()
		<-server.CloseChan()
		_ = remote.Close()
		serving.Wait()
	})
	return c
}

func echo(s httpstream.Stream) {
	_, _ = io.Copy(s, s)
	_ = s.Close()
}

func sendAll(t *testing.T, s *Stream, data []byte) {
	t.Helper()
	for len(data) > 0 {
		n := min(len(data), MaxWriteSize)
		if err := s.Write(data[:n]); err != nil {
			t.Error(err)
		}
		data = data[n:]
	}
	if err := s.CloseWrite(); err != nil {
		t.Error(err)
	}
}

func openStream(t *testing.T, c *Conn, headers ...Header) *Stream {
	t.Helper()
	s, err := c.OpenStream(headers, false)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStream_SendsHeadersAndEchoesBytes(t *testing.T) {
	headers := make(chan http.Header, 3)
	c := connectToPeer(t, func(s httpstream.Stream) {
		headers <- s.Headers()
		echo(s)
	})
	for _, port := range []string{"1", "65535", "7000"} { // all headers of a connection are one zlib stream
		s := openStream(t, c, Header{"port", port}, Header{"streamtype", "data"})
		if got := <-headers; got.Get("port") != port || got.Get("streamtype") != "data" {
			t.Errorf("headers %v", got)
		}
		<-s.Replied()
		sendAll(t, s, []byte("there and back"))
		var back bytes.Buffer
		if _, err := s.WriteTo(&back); err != nil || back.String() != "there and back" {
			t.Errorf("got %q, %v", back.String(), err)
		}
	}
	// A stream's reader may see its end before the connection has removed it, but that is done before the next frame is read.
	next := openStream(t, c, Header{"port", "1"}, Header{"streamtype", "data"})
	<-next.Replied()
	<-headers
	c.mu.Lock()
	n := len(c.streams)
	c.mu.Unlock()
	if n != 1 {
		t.Errorf("%d streams are left beside the open one", n-1)
	}
	next.Abort()
}

func TestConn_ConcurrentStreamsKeepTheirBytesApart(t *testing.T) {
	c := connectToPeer(t, echo)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			data := make([]byte, 300<<10)
			_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(data)
			s := openStream(t, c)
			var sending sync.WaitGroup
			sending.Go(func() { sendAll(t, s, data) })
			sum := sha256.New()
			n, err := s.WriteTo(sum)
			sending.Wait()
			if want := sha256.Sum256(data); err != nil || n != int64(len(data)) || !bytes.Equal(sum.Sum(nil), want[:]) {
				t.Errorf("stream %d: %d bytes, %v", i, n, err)
			}
		})
	}
	all.Wait()
}

func TestConn_PingsCompleteOnReplyOrClose(t *testing.T) {
	c := connectToPeer(t, echo)
	select {
	case <-c.Ping():
	case <-time.After(10 * time.Second):
		t.Fatal("no answer")
	}
	waiting := c.Ping()
	_ = c.Close()
	<-waiting
	<-c.Ping()
	if _, err := c.OpenStream(nil, false); !errors.Is(err, ErrClosed) || !errors.Is(c.Err(), ErrClosed) {
		t.Errorf("open: %v, connection: %v", err, c.Err())
	}
}

func TestStream_RefusedStreamIsReset(t *testing.T) {
	c := connectToPeer(t, echo)
	s := openStream(t, c, Header{"refuse", "yes"})
	<-s.Replied()
	if _, err := s.WriteTo(io.Discard); !errors.Is(err, ErrReset) {
		t.Errorf("got %v", err)
	}
	other := openStream(t, c)
	sendAll(t, other, []byte("x"))
	if n, err := other.WriteTo(io.Discard); n != 1 || err != nil {
		t.Errorf("another: %d bytes, %v", n, err)
	}
}

func TestStream_AbortUnblocksTheConnection(t *testing.T) {
	c := connectToPeer(t, func(s httpstream.Stream) {
		for {
			if _, err := s.Write(make([]byte, 1000)); err != nil {
				return
			}
		}
	})
	unread := openStream(t, c)
	for unread.ReceivedBytes() < 64<<10 { // the queue is full: the connection reads nothing more
		<-time.After(time.Millisecond)
	}
	unread.Abort()
	select {
	case <-c.Ping():
	case <-time.After(10 * time.Second):
		t.Fatal("the connection still waits")
	}
}

func TestBufferReserve_SlowReaderOfASharedConnectionBorrowsMemory(t *testing.T) {
	const room = 64<<10 + 1<<20 // the stream's queue and the reserve
	c := connectToPeer(t, func(s httpstream.Stream) {
		n, _ := strconv.Atoi(s.Headers().Get("bytes"))
		_, _ = s.Write(make([]byte, n))
		_ = s.Close()
	})
	c.SetShared(true)
	slow := openStream(t, c, Header{"bytes", strconv.Itoa(room - 64<<10)})
	for range 3 {
		if n, err := openStream(t, c, Header{"bytes", "100000"}).WriteTo(io.Discard); n != 100000 || err != nil {
			t.Errorf("another stream: %d bytes, %v", n, err)
		}
	}
	<-slow.Replied()
	for slow.EndErr() == nil {
		<-c.Ping() // the reply comes after the bytes that were sent before it
	}
	if !c.IsCongested() || c.IsBackedUp() {
		t.Errorf("congested: %v, backed up: %v", c.IsCongested(), c.IsBackedUp())
	}
	if n, err := slow.WriteTo(io.Discard); n != room-64<<10 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if left := c.reserve.available.Load(); left != 1<<20 || c.IsCongested() {
		t.Errorf("%d bytes of the reserve are left, congested: %v", left, c.IsCongested())
	}

	// The reserve is limited; an aborted stream returns its bytes.
	slow = openStream(t, c, Header{"bytes", strconv.Itoa(2 * room)})
	for !c.IsBackedUp() {
		runtime.Gosched()
	}
	slow.Abort()
	if n, err := openStream(t, c, Header{"bytes", "100000"}).WriteTo(io.Discard); n != 100000 || err != nil {
		t.Errorf("after that: %d bytes, %v", n, err)
	}
	if left := c.reserve.available.Load(); left != 1<<20 {
		t.Errorf("%d bytes of the reserve are left", left)
	}
}

func TestStream_QueuedShortMessagesShareChunks(t *testing.T) {
	const many = 1000
	c := connectToPeer(t, func(s httpstream.Stream) {
		for i := range many {
			_, _ = fmt.Fprintf(s, "%d\n", i)
		}
		_ = s.Close()
	})
	s := openStream(t, c)
	<-s.Replied()
	for s.EndErr() == nil {
		<-c.Ping()
	}
	if n := len(s.queue); n > 2 {
		t.Errorf("%d chunks", n)
	}
	var got, want strings.Builder
	for i := range many {
		fmt.Fprintf(&want, "%d\n", i)
	}
	if _, err := s.WriteTo(&got); err != nil || got.String() != want.String() {
		t.Errorf("other bytes came, or %v", err)
	}
}

func TestConn_EndOfConnectionEndsItsStreams(t *testing.T) {
	local, remote := net.Pipe()
	c := NewConn(local, 64<<10, NewBufferReserve(1<<20))
	go func() {
		_, _ = io.ReadFull(remote, make([]byte, frameHeaderSize))
		_ = remote.Close()
	}()
	s, err := c.OpenStream(nil, false)
	if err == nil {
		_, err = s.WriteTo(io.Discard)
	}
	if err == nil {
		t.Error("the stream ended as if the server had closed it")
	}
	<-c.Done()
	_ = c.Close()
}

// FuzzFrames: whatever a server sends, Close ends the connection and its goroutines.
func FuzzFrames(f *testing.F) {
	f.Add(appendPing(nil, 2))
	f.Add(appendRstStream(nil, 1))
	f.Add(appendGoAway(nil))
	f.Add(appendSynStream(nil, 2, 0, []Header{{"a", "b"}}, true))
	f.Add(append(appendControlHeader(nil, frameSynReply, flagFin, 4), 0, 0, 0, 1))
	f.Add([]byte{0, 0, 0, 1, 1, 0, 0, 3, 'a', 'b', 'c'})
	f.Fuzz(func(t *testing.T, frames []byte) {
		local, remote := net.Pipe()
		c := NewConn(local, 1<<10, NewBufferReserve(1<<20))
		var peer sync.WaitGroup
		peer.Go(func() { _, _ = io.Copy(io.Discard, remote) })
		s, err := c.OpenStream([]Header{{"port", "1"}}, false)
		if err != nil {
			t.Fatal(err)
		}
		peer.Go(func() {
			_, _ = remote.Write(frames)
			_ = remote.Close()
		})
		_, _ = s.WriteTo(io.Discard)
		_ = c.Close()
		peer.Wait()
	})
}
