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

// far is a far side that remembers what it gets and gives back what it is told.
type far struct {
	*Conn // for what no test needs
	mu    sync.Mutex
	got   bytes.Buffer
	says  []byte
	half  bool
	over  chan struct{}
	once  sync.Once
}

func newFar(says string) *far { return &far{says: []byte(says), over: make(chan struct{})} }

func (f *far) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.got.Write(p)
}

func (f *far) Next() ([]byte, error) {
	if f.says == nil {
		return nil, io.EOF
	}
	says := f.says
	f.says = nil
	return says, nil
}

func (f *far) Read(p []byte) (int, error) {
	if len(f.says) == 0 {
		return 0, io.EOF
	}
	n := copy(p, f.says)
	f.says = f.says[n:]
	return n, nil
}

func (f *far) CloseWrite() error { f.half = true; return nil }
func (f *far) WaitEnd() error    { <-f.over; return nil }
func (f *far) Broken() bool      { return true }
func (f *far) Close() error      { f.once.Do(func() { close(f.over) }); return nil }

func (f *far) SetReadDeadline(time.Time) error { return nil }

type asked struct {
	host string
	port int
}

// server is one that leads to f, and what it was asked for.
func server(t *testing.T, f *far) (*Conn, *asked) {
	t.Helper()
	a := &asked{}
	c := New(t.Context(), func(_ context.Context, host string, port int) (forwarder.Stream, error) {
		*a = asked{host, port}
		return f, nil
	})
	t.Cleanup(func() { _ = c.Close() })
	return c, a
}

func TestEachVersionOfARequestIsUnderstoodHoweverItIsCut(t *testing.T) {
	for _, tt := range []struct {
		name   string
		said   string
		want   asked
		answer string
	}{
		{"5, IPv4", "\x05\x01\x00\x05\x01\x00\x01\x0a\x00\x00\x05\x18\xeb", asked{"10.0.0.5", 6379}, "\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"},
		{"5, a name", "\x05\x02\x02\x00\x05\x01\x00\x03\x02db\x15\x38", asked{"db", 5432}, "\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"},
		{"5, IPv6", "\x05\x01\x00\x05\x01\x00\x04" + string(net.ParseIP("fd00::1")) + "\x00\x50", asked{"fd00::1", 80}, "\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"},
		{"4", "\x04\x01\x00\x50\x0a\x00\x00\x05me\x00", asked{"10.0.0.5", 80}, "\x00\x5a\x00\x00\x00\x00\x00\x00"},
		{"4a", "\x04\x01\x00\x50\x00\x00\x00\x01\x00web\x00", asked{"web", 80}, "\x00\x5a\x00\x00\x00\x00\x00\x00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for size := 1; size <= len(tt.said)+4; size++ {
				f := newFar("hi")
				c, a := server(t, f)
				all := []byte(tt.said + "more") // a client may not wait for the answer
				for len(all) > 0 {
					n := min(size, len(all))
					if _, err := c.Write(all[:n]); err != nil {
						t.Fatal(err)
					}
					all = all[n:]
				}
				if *a != tt.want {
					t.Fatalf("asked for %+v", *a)
				}
				if f.got.String() != "more" {
					t.Errorf("the far side got %q", f.got.String())
				}
				got := make([]byte, len(tt.answer)+2)
				if _, err := io.ReadFull(c, got); err != nil || string(got) != tt.answer+"hi" {
					t.Errorf("answered %q, %v", got, err)
				}
			}
		})
	}
}

func TestARefusalIsToldAndTheConnectionEnds(t *testing.T) {
	for said, want := range map[string]string{
		"\x05\x01\x00\x05\x01\x00\x03\x02db\x15\x38":           "\x05\x00\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00",
		"\x04\x01\x00\x50\x0a\x00\x00\x05\x00":                 "\x00\x5b\x00\x00\x00\x00\x00\x00",
		"\x05\x01\x02":                                         "\x05\xff",
		"\x05\x01\x00\x05\x02\x00\x01\x00\x00\x00\x00\x00\x50": "\x05\x00\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00",
		"GET / HTTP/1.1\r\n":                                   "",
	} {
		c := New(t.Context(), func(context.Context, string, int) (forwarder.Stream, error) {
			return nil, &Refusal{Reply: Prohibited, Err: errors.New("no")}
		})
		if _, err := c.Write([]byte(said)); err != nil {
			t.Errorf("%q: %v", said, err)
		}
		if got, err := io.ReadAll(c); err != nil || string(got) != want {
			t.Errorf("%q: answered %q, %v", said, got, err)
		}
		if err := c.WaitEnd(); err != nil {
			t.Errorf("%q: its end: %v", said, err)
		}
		_ = c.Close()
	}
}

func TestTheEndsAreThoseOfTheWay(t *testing.T) {
	f := newFar("")
	c, _ := server(t, f)
	_ = c.CloseWrite() // before the far side is there
	if _, err := c.Write([]byte("\x04\x01\x00\x50\x0a\x00\x00\x05\x00")); err != nil {
		t.Fatal(err)
	}
	if !f.half {
		t.Error("the client's end was lost")
	}
	_ = f.Close()
	if err := c.WaitEnd(); err != nil || !c.Broken() {
		t.Errorf("its end: %v, broken %v", err, c.Broken())
	}
}

func TestWaitingEndsWithADeadlineAndWithClose(t *testing.T) {
	c, _ := server(t, newFar(""))
	_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := c.Next(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("late: %v", err)
	}
	_ = c.SetReadDeadline(time.Time{})
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if _, err := c.Next(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	})
	_ = c.Close()
	waiting.Wait()
	if _, err := c.Write([]byte{5}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func FuzzWhateverIsSaidIsTakenOrRefused(f *testing.F) {
	f.Add([]byte("\x05\x01\x00\x05\x01\x00\x03\x02db\x15\x38"), false)
	f.Add([]byte("\x04\x01\x00\x50\x00\x00\x00\x01\x00web\x00"), true)
	f.Fuzz(func(t *testing.T, said []byte, greeted bool) {
		r, n, _, err := parse(said, greeted)
		if n < 0 || n > len(said) || err != nil && n != 0 || r != nil && n == 0 {
			t.Errorf("%d of %d bytes, request %+v, %v", n, len(said), r, err)
		}
	})
}
