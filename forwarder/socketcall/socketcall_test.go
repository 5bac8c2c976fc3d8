package socketcall

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// connect returns both ends of a connection.
func connect(t *testing.T, network string) (a, b net.Conn) {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial(network, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestReader_ReadsLikeItsConnection(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			a, b := connect(t, network)
			r, buf := NewReader(a), make([]byte, 8)
			if n, err := r.Read(nil); n != 0 || err != nil {
				t.Errorf("an empty read: %d, %v", n, err)
			}
			resultCh := make(chan string)
			go func() {
				n, err := r.Read(buf)
				resultCh <- string(buf[:n]) + errorText(err)
			}()
			if _, err := b.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			if got := <-resultCh; got != "hello" {
				t.Errorf("got %q", got)
			}
			_ = a.SetReadDeadline(time.Unix(1, 0))
			if n, err := r.Read(buf); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("after the deadline: %d, %v", n, err)
			}
			_ = a.SetReadDeadline(time.Time{})
			b.Close()
			if n, err := r.Read(buf); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("at the end: %d, %v", n, err)
			}
			a.Close()
			if n, err := r.Read(buf); n != 0 || !errors.Is(err, net.ErrClosed) {
				t.Errorf("after Close: %d, %v", n, err)
			}
		})
	}
}

func errorText(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}

func TestReader_ReportsReset(t *testing.T) {
	a, b := connect(t, "tcp")
	_ = b.(*net.TCPConn).SetLinger(0)
	b.Close()
	if n, err := NewReader(a).Read(make([]byte, 8)); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %d, %v", n, err)
	}
}

func TestNewReader_ReturnsWhatIsNoSocket(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if NewReader(a) != io.Reader(a) {
		t.Error("a pipe of this process is no socket")
	}
}

func TestWriter_WritesAllBuffersInOrder(t *testing.T) {
	pipeEnd, otherEnd := net.Pipe()
	defer pipeEnd.Close()
	conns := map[string][2]net.Conn{"pipe of this process": {pipeEnd, otherEnd}}
	for _, network := range []string{"tcp", "unix"} {
		a, b := connect(t, network)
		conns[network] = [2]net.Conn{a, b}
	}
	// More slices than one call writes, empty ones, and far more bytes than a socket buffers.
	var buffers net.Buffers
	var want []byte
	for i := range 200 {
		part := bytes.Repeat([]byte{byte(i)}, i*i%70_000)
		buffers, want = append(buffers, part, nil), append(want, part...)
	}
	for name, ends := range conns {
		t.Run(name, func(t *testing.T) {
			gotCh := make(chan []byte, 1)
			go func() {
				got, _ := io.ReadAll(ends[1])
				gotCh <- got
			}()
			w := NewWriter(ends[0])
			for range 2 {
				if err := w.WriteBuffers(slices.Clone(buffers)); err != nil {
					t.Error(err)
				}
			}
			if err := w.WriteBuffers(nil); err != nil {
				t.Errorf("nothing to write: %v", err)
			}
			ends[0].Close()
			if got := <-gotCh; !bytes.Equal(got, slices.Concat(want, want)) {
				t.Errorf("%d bytes arrived, want twice %d in order", len(got), len(want))
			}
			if err := w.WriteBuffers(net.Buffers{[]byte("x")}); !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("after Close: %v", err)
			}
		})
	}
}

func TestWriter_CloseEndsIt(t *testing.T) {
	a, b := connect(t, "unix")
	defer b.Close()
	errCh := make(chan error, 1)
	go func() { errCh <- NewWriter(a).WriteBuffers(net.Buffers{make([]byte, 64<<20)}) }()
	if _, err := io.ReadFull(b, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	a.Close()
	if err := <-errCh; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestWriter_ReportsClosedPeer(t *testing.T) {
	a, b := connect(t, "unix")
	b.Close()
	if err := NewWriter(a).WriteBuffers(net.Buffers{[]byte("x")}); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("got %v", err)
	}
}

func TestConn_CarriesBytesBothWaysAtOnce(t *testing.T) {
	a, b := connect(t, "tcp")
	wrapped, want := NewConn(a), bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	go func() { _, _ = io.Copy(b, b); b.Close() }()
	go func() {
		if n, err := wrapped.Write(want); n != len(want) || err != nil {
			t.Errorf("wrote %d bytes: %v", n, err)
		}
		_ = a.(*net.TCPConn).CloseWrite()
	}()
	if got, err := io.ReadAll(wrapped); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes came back, want %d; %v", len(got), len(want), err)
	}
	wrapped.Close()
	if n, err := wrapped.Write([]byte("x")); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %d, %v", n, err)
	}
}

func TestConn_ReportsHowMuchWasWritten(t *testing.T) {
	a, b := connect(t, "unix")
	defer b.Close()
	wrapped := NewConn(a)
	_ = wrapped.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
	n, err := wrapped.Write(make([]byte, 64<<20))
	if n <= 0 || n >= 64<<20 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %d, %v", n, err)
	}
	b.Close()
	_ = wrapped.SetWriteDeadline(time.Time{})
	if n, err := wrapped.Write([]byte("x")); n != 0 || !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the peer has closed: %d, %v", n, err)
	}
}

func TestSendAndReceive_NeverWait(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	for _, fd := range fds { // Receive and Send rely on it on macOS
		if err := unix.SetNonblock(fd, true); err != nil {
			t.Fatal(err)
		}
	}
	buf := []byte(strings.Repeat("x", 64<<10))
	if n, err := Receive(uintptr(fds[1]), buf); n != 0 || !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("nothing to read: %d, %v", n, err)
	}
	sent := 0
	for {
		n, err := Send(uintptr(fds[0]), buf)
		sent += n
		if errors.Is(err, syscall.EAGAIN) {
			break
		}
		if err != nil || sent > 64<<20 {
			t.Fatal(sent, err)
		}
	}
	ShutdownWrite(uintptr(fds[0]))
	received := 0
	for {
		n, err := Receive(uintptr(fds[1]), buf)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		received += n
	}
	if sent == 0 || received != sent {
		t.Errorf("received %d of %d bytes", received, sent)
	}
	unix.Close(fds[0])
	if _, err := Send(uintptr(fds[1]), buf); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the peer has closed: %v", err)
	}
}

func TestTakeError_ClearsIt(t *testing.T) {
	a, b := connect(t, "tcp")
	_ = b.(*net.TCPConn).SetLinger(0)
	b.Close()
	rawConn, err := a.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = rawConn.Read(func(fd uintptr) bool { // returns when the reset has arrived
		pending, err := TakeError(fd)
		if err != nil || pending != 0 && pending != syscall.ECONNRESET {
			t.Errorf("got %v, %v", pending, err)
		}
		if pending == 0 {
			return false
		}
		if pending, err = TakeError(fd); pending != 0 || err != nil {
			t.Errorf("the second time: %v, %v", pending, err)
		}
		return true
	})
}
