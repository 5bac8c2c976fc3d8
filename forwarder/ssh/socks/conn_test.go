package socks

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/forwarder"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeUpstream records what it receives and sends a fixed text.
type fakeUpstream struct {
	*Conn         // for methods that no test calls
	mu            sync.Mutex
	received      bytes.Buffer
	toSend        []byte
	isWriteClosed bool
	closedCh      chan struct{}
	closeOnce     sync.Once
}

func newFakeUpstream(toSend string) *fakeUpstream {
	return &fakeUpstream{toSend: []byte(toSend), closedCh: make(chan struct{})}
}

func (f *fakeUpstream) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.received.Write(p)
}

func (f *fakeUpstream) Next() ([]byte, error) {
	if f.toSend == nil {
		return nil, io.EOF
	}
	sent := f.toSend
	f.toSend = nil
	return sent, nil
}

func (f *fakeUpstream) Read(p []byte) (int, error) {
	if len(f.toSend) == 0 {
		return 0, io.EOF
	}
	n := copy(p, f.toSend)
	f.toSend = f.toSend[n:]
	return n, nil
}

func (f *fakeUpstream) CloseWrite() error { f.isWriteClosed = true; return nil }
func (f *fakeUpstream) WaitEnd() error    { <-f.closedCh; return nil }
func (f *fakeUpstream) IsBroken() bool    { return true }
func (f *fakeUpstream) Close() error      { f.closeOnce.Do(func() { close(f.closedCh) }); return nil }

func (f *fakeUpstream) SetReadDeadline(time.Time) error { return nil }

type destination struct {
	host string
	port int
}

// newConn returns a Conn whose upstream is f, and the destination that its client requested.
func newConn(t *testing.T, f *fakeUpstream) (*Conn, *destination) {
	t.Helper()
	requested := &destination{}
	c := New(t.Context(), func(_ context.Context, host string, port int) (forwarder.Stream, error) {
		*requested = destination{host, port}
		return f, nil
	})
	t.Cleanup(func() { _ = c.Close() })
	return c, requested
}

func TestConn_ParsesEveryVersionHoweverItIsSplit(t *testing.T) {
	for _, tt := range []struct {
		name  string
		input string
		want  destination
		reply string
	}{
		{"5, IPv4", "\x05\x01\x00\x05\x01\x00\x01\x0a\x00\x00\x05\x18\xeb", destination{"10.0.0.5", 6379}, "\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"},
		{"5, host name", "\x05\x02\x02\x00\x05\x01\x00\x03\x02db\x15\x38", destination{"db", 5432}, "\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"},
		{"5, IPv6", "\x05\x01\x00\x05\x01\x00\x04" + string(net.ParseIP("fd00::1")) + "\x00\x50", destination{"fd00::1", 80}, "\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"},
		{"4", "\x04\x01\x00\x50\x0a\x00\x00\x05me\x00", destination{"10.0.0.5", 80}, "\x00\x5a\x00\x00\x00\x00\x00\x00"},
		{"4a", "\x04\x01\x00\x50\x00\x00\x00\x01\x00web\x00", destination{"web", 80}, "\x00\x5a\x00\x00\x00\x00\x00\x00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for size := 1; size <= len(tt.input)+4; size++ {
				f := newFakeUpstream("hi")
				c, requested := newConn(t, f)
				all := []byte(tt.input + "more") // a client need not wait for the reply
				for len(all) > 0 {
					n := min(size, len(all))
					if _, err := c.Write(all[:n]); err != nil {
						t.Fatal(err)
					}
					all = all[n:]
				}
				if *requested != tt.want {
					t.Fatalf("requested %+v", *requested)
				}
				if f.received.String() != "more" {
					t.Errorf("upstream received %q", f.received.String())
				}
				got := make([]byte, len(tt.reply)+2)
				if _, err := io.ReadFull(c, got); err != nil || string(got) != tt.reply+"hi" {
					t.Errorf("read %q, %v", got, err)
				}
			}
		})
	}
}

func TestConn_SendsRefusalReplyAndEnds(t *testing.T) {
	for input, want := range map[string]string{
		"\x05\x01\x00\x05\x01\x00\x03\x02db\x15\x38":           "\x05\x00\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00",
		"\x04\x01\x00\x50\x0a\x00\x00\x05\x00":                 "\x00\x5b\x00\x00\x00\x00\x00\x00",
		"\x05\x01\x02":                                         "\x05\xff",
		"\x05\x01\x00\x05\x02\x00\x01\x00\x00\x00\x00\x00\x50": "\x05\x00\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00",
		"GET / HTTP/1.1\r\n":                                   "",
	} {
		c := New(t.Context(), func(context.Context, string, int) (forwarder.Stream, error) {
			return nil, &Refusal{Reply: ReplyNotAllowed, Err: errors.New("no")}
		})
		if _, err := c.Write([]byte(input)); err != nil {
			t.Errorf("%q: %v", input, err)
		}
		if got, err := io.ReadAll(c); err != nil || string(got) != want {
			t.Errorf("%q: answered %q, %v", input, got, err)
		}
		if err := c.WaitEnd(); err != nil {
			t.Errorf("%q: end: %v", input, err)
		}
		_ = c.Close()
	}
}

func TestConn_PassesEndsToAndFromUpstream(t *testing.T) {
	f := newFakeUpstream("")
	c, _ := newConn(t, f)
	_ = c.CloseWrite() // before the upstream is open
	if _, err := c.Write([]byte("\x04\x01\x00\x50\x0a\x00\x00\x05\x00")); err != nil {
		t.Fatal(err)
	}
	if !f.isWriteClosed {
		t.Error("CloseWrite did not reach the upstream")
	}
	_ = f.Close()
	if err := c.WaitEnd(); err != nil || !c.IsBroken() {
		t.Errorf("end: %v, broken %v", err, c.IsBroken())
	}
}

func TestConn_NextEndsAtDeadlineAndOnClose(t *testing.T) {
	c, _ := newConn(t, newFakeUpstream(""))
	_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := c.Next(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	_ = c.SetReadDeadline(time.Time{})
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if _, err := c.Next(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
	_ = c.Close()
	waiting.Wait()
	if _, err := c.Write([]byte{5}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
