package ssh

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/child"
)

// tunnel is one run of ssh.
type tunnel struct {
	*child.Child
	technology *technology
	socket     string
	log        io.Writer
	ready      chan bool // gets, once, whether ssh listens on the socket
	refusals   chan forwarder.Refusal
	channels   channels

	// What line has understood; to be read by others after Done.
	asked  bool // it has logged in and been asked to listen on the socket
	up     bool // it listens
	said   child.Said
	locked string // a key that the server would take and ssh could not use
}

func newTunnel(t *technology, socket string, log io.Writer) *tunnel {
	return &tunnel{
		technology: t, socket: socket, log: log,
		ready:    make(chan bool, 1),
		refusals: make(chan forwarder.Refusal, 64),
		channels: newChannels(t.to.RemoteHost, t.port),
	}
}

// line takes what ssh prints, as it comes.
func (t *tunnel) line(_ child.Stream, line string) {
	if words, ok := strings.CutPrefix(line, "debug1: "); ok {
		t.debug(words)
		return
	}
	_, _ = io.WriteString(t.log, line+"\n")
	if t.up {
		if refusal, is, ours := t.channels.failed(line); is {
			if ours {
				t.report(refusal)
			}
			return
		}
	}
	if !chatter(line) {
		t.said.Add(line)
	}
}

// report delivers a refusal, unless nobody has taken many before it.
func (t *tunnel) report(refusal forwarder.Refusal) {
	select {
	case t.refusals <- refusal:
	default:
	}
}

// debug takes what ssh prints at DEBUG1. The log is spared of it.
func (t *tunnel) debug(words string) {
	switch {
	case strings.HasPrefix(words, "Local connections to "+t.socket+":"):
		t.asked = true
	case words == "Entering interactive session.": // all its listeners are up, or have failed
		t.entered()
	case strings.HasPrefix(words, "Server accepts key: "):
		t.locked, _, _ = strings.Cut(strings.TrimPrefix(words, "Server accepts key: "), " ")
	case strings.HasPrefix(words, "Authentications that can continue"):
		t.locked = "" // it was used, and not enough
	default:
		t.channels.debug(words)
	}
}

// entered is told that an ssh has logged in: the ssh to a jump host says so too, where the user's configuration has it
// say that much.
func (t *tunnel) entered() {
	_, err := os.Lstat(t.socket)
	if t.up || err != nil && !t.asked {
		return
	}
	if t.up = err == nil; t.up {
		t.said.Forget() // a LocalForward of the user's own that failed is not why it will end
	}
	select {
	case t.ready <- t.up:
	default:
	}
}

// chatter reports whether a line tells nothing of a failure.
func chatter(line string) bool {
	for _, start := range []string{"Authenticated to ", "Transferred: ", "Bytes per second: "} {
		if strings.HasPrefix(line, start) {
			return true
		}
	}
	return false
}

// await returns when ssh listens on the tunnel's socket, or says why it does not.
func (t *tunnel) await(ctx context.Context) error {
	select {
	case listens := <-t.ready:
		if listens {
			return nil
		}
		_ = t.Close()
		return t.failure()
	case <-t.Done():
		return t.failure()
	case <-ctx.Done():
	}
	_ = t.Close()
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ctx.Err()
	}
	if f := t.explain(); f != nil {
		return f
	}
	return &forwarder.Failure{Reason: "ssh was not ready in time"}
}

// busy is how long a connection waits before it tries again to get into the socket's queue, which is full while ssh
// is at something else. Nothing tells when it has room.
const busy = 10 * time.Millisecond

// Dial connects to ssh, which accepts whatever may be behind it.
func (t *tunnel) Dial(ctx context.Context) (net.Conn, error) {
	for {
		conn, err := t.channels.dial(ctx, t.socket)
		if !errors.Is(err, syscall.EAGAIN) {
			return conn, err
		}
		select {
		case <-time.After(busy):
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-t.Done():
			return nil, net.ErrClosed
		}
	}
}

// Refusals are the channels that the far side did not open.
func (t *tunnel) Refusals() <-chan forwarder.Refusal { return t.refusals }

// Acknowledges is false: ssh accepts before it asks the far side.
func (t *tunnel) Acknowledges() bool { return false }

// Err is why ssh ended, in its own words.
func (t *tunnel) Err() error {
	if t.Stopped() {
		return nil
	}
	return t.failure()
}

func (t *tunnel) failure() error {
	if f := t.explain(); f != nil {
		return f
	}
	return &forwarder.Failure{Reason: "ssh ended: " + t.Status()}
}
