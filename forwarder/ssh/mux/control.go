// Package mux speaks to an ssh master: the process behind "ssh -M". A Control asks it for what concerns the whole of it;
// a Conn opens channels of its connection, as ssh's own clients of the kind "ssh -O proxy" do, and carries their bytes.
// What is said here is in PROTOCOL.mux of OpenSSH's sources, and in RFC 4254.
package mux

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"time"
)

// The messages of PROTOCOL.mux that are used here.
const (
	hello         = 0x00000001
	openForward   = 0x10000006
	closeForward  = 0x10000007
	stopListening = 0x10000009
	proxy         = 0x1000000f
	ok            = 0x80000001
	denied        = 0x80000002
	failure       = 0x80000003
	remotePort    = 0x80000007
	proxied       = 0x8000000f
)

const (
	version       = 4
	remoteForward = 2
	mostReply     = 64 << 10 // bytes; a reply is a few words
)

// Control is a connection to a master. Its methods may be called by several goroutines.
type Control struct {
	mu     sync.Mutex // held from a request to its reply
	socket *net.UnixConn
	last   uint32 // request
}

// Dial connects to the master that listens at path. The caller closes the Control.
func Dial(ctx context.Context, path string) (*Control, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	c := &Control{socket: conn.(*net.UnixConn)}
	if err := c.within(ctx, c.greet); err != nil {
		conn.Close()
		return nil, fmt.Errorf("speak to the ssh master: %w", err)
	}
	return c, nil
}

// Close lets go of the master. The forwards that were asked for stay.
func (c *Control) Close() error { return c.socket.Close() }

// greet says hello, which each side does unasked.
func (c *Control) greet() error {
	if err := c.send(number(number(nil, hello), version)); err != nil {
		return err
	}
	words, err := c.receive()
	if err != nil {
		return err
	}
	if kind, theirs := words.number(), words.number(); words.bad || kind != hello || theirs != version {
		return fmt.Errorf("it speaks another protocol: message %#x, version %d", kind, theirs)
	}
	return nil
}

// within calls f, whose reading and writing ends when ctx does.
func (c *Control) within(ctx context.Context, f func() error) error {
	stop := context.AfterFunc(ctx, func() { _ = c.socket.SetDeadline(time.Unix(1, 0)) })
	err := f()
	if !stop() {
		_ = c.socket.SetDeadline(time.Time{})
		if err != nil {
			return ctx.Err()
		}
	}
	return err
}

// ask sends a request and returns what the reply says after its kind. An error is that of the master, in its words, or of
// the connection to it.
func (c *Control) ask(ctx context.Context, kind uint32, request []byte) (reply uint32, words *words, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	err = c.within(ctx, func() error {
		if err := c.send(append(number(number(nil, kind), c.last), request...)); err != nil {
			return err
		}
		for {
			if words, err = c.receive(); err != nil {
				return err
			}
			reply = words.number()
			switch id := words.number(); {
			case words.bad || id > c.last:
				return fmt.Errorf("the ssh master answered request %d, which was %d", id, c.last)
			case id == c.last:
				return nil
			} // else it is late, for somebody who has given up
		}
	})
	if err != nil {
		return 0, nil, err
	}
	if reply == failure || reply == denied {
		return 0, nil, errors.New(string(words.text()))
	}
	return reply, words, nil
}

// StopListening has the master close its socket and remove its file: nobody else will speak to it. From then on it lives
// as long as somebody who does.
func (c *Control) StopListening(ctx context.Context) error {
	_, _, err := c.ask(ctx, stopListening, nil)
	return err
}

// Forward is one from the far side: a listener there whose connections are made here.
type Forward struct {
	Listen     string // an address of the far side's; empty: as the server is set up, which is localhost mostly
	ListenPort int
	To         string // an address of this side
	ToPort     int
}

func (f Forward) request() []byte {
	b := text(number(nil, remoteForward), f.Listen)
	b = text(number(b, uint32(f.ListenPort)), f.To) //nolint:gosec // it is a port
	return number(b, uint32(f.ToPort))              //nolint:gosec // it is a port
}

// Forward has the far side listen. The error is the far side's refusal, in ssh's words.
func (c *Control) Forward(ctx context.Context, f Forward) error {
	_, _, err := c.ask(ctx, openForward, f.request())
	return err
}

// Cancel ends a forward; connections that it has made stay.
func (c *Control) Cancel(ctx context.Context, f Forward) error {
	_, _, err := c.ask(ctx, closeForward, f.request())
	return err
}

// Proxy turns the control into a connection for channels, which is the caller's to close; the control is used up.
func (c *Control) Proxy(ctx context.Context) (*Conn, error) {
	reply, _, err := c.ask(ctx, proxy, nil)
	if err == nil && reply != proxied {
		err = fmt.Errorf("it answered %#x", reply)
	}
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("open a connection for channels: %w", err)
	}
	_ = c.socket.SetWriteBuffer(1 << 20) // or what the system allows: who writes much is woken up less often
	return newConn(c.socket), nil
}

// send sends a packet: its length and its words.
func (c *Control) send(words []byte) error {
	_, err := c.socket.Write(append(number(nil, uint32(len(words))), words...)) //nolint:gosec // it is short
	return err
}

func (c *Control) receive() (*words, error) {
	var head [4]byte
	if _, err := io.ReadFull(c.socket, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > mostReply {
		return nil, fmt.Errorf("a reply of %d bytes", n)
	}
	rest := make([]byte, n)
	_, err := io.ReadFull(c.socket, rest)
	return &words{rest: rest}, err
}

// number appends a number as both protocols have it.
func number(b []byte, n uint32) []byte { return binary.BigEndian.AppendUint32(b, n) }

// text appends a string as both protocols have it. It is far shorter than the length can say.
func text(b []byte, s string) []byte {
	return append(number(b, uint32(min(len(s), math.MaxUint32))), s...) //nolint:gosec // see above
}

// words are what a message says, taken one by one. Where one is missing it is zero, and bad is set.
type words struct {
	rest []byte
	bad  bool
}

func (w *words) number() uint32 {
	if len(w.rest) < 4 {
		w.rest, w.bad = nil, true
		return 0
	}
	n := binary.BigEndian.Uint32(w.rest)
	w.rest = w.rest[4:]
	return n
}

func (w *words) text() []byte {
	n := int(w.number())
	if n > len(w.rest) {
		w.rest, w.bad = nil, true
		return nil
	}
	s := w.rest[:n]
	w.rest = w.rest[n:]
	return s
}

func (w *words) flag() bool {
	if len(w.rest) == 0 {
		w.bad = true
		return false
	}
	b := w.rest[0] != 0
	w.rest = w.rest[1:]
	return b
}
