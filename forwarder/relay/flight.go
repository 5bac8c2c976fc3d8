package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// flight is one connection through a tunnel.
type flight struct {
	line    *line
	conn    net.Conn
	news    chan struct{} // one place: there is a report to look at
	staying *time.Timer   // on a suspect line: proves it if the connection stays open; else nil

	// Guarded by the line.
	heard   time.Time          // of the last report that may be about this connection
	refused *forwarder.Refusal // the report that it never reached a server
	closing bool               // it has ended, and what the tunnel says of it is awaited
}

// answered says that the far end took the connection: nothing of it may be repeated any more.
func (f *flight) answered() {
	f.land()
	f.line.prove()
}

// land takes the connection out of those that a report may be about.
func (f *flight) land() {
	if f.staying != nil {
		f.staying.Stop()
	}
	f.line.mu.Lock()
	defer f.line.mu.Unlock()
	delete(f.line.flights, f)
}

// flies reports whether there is neither an answer nor an end yet.
func (f *flight) flies() bool {
	f.line.mu.Lock()
	defer f.line.mu.Unlock()
	_, ok := f.line.flights[f]
	return ok && !f.closing
}

// verdict is what is to become of a client whose connection ended before any answer.
type verdict int

const (
	over  verdict = iota // the far end closed it: the client is told so
	again                // no server has seen anything of the client: another attempt is safe
	lost                 // a server may have seen something: the client is reset
)

// verdict waits for what the tunnel has to say of a connection that ended without an answer. sent is whether the client
// has sent anything, whole whether all of that can be sent again.
func (f *flight) verdict(ctx context.Context, sent, whole bool) verdict {
	if f.line.tunnel.Acknowledges() {
		return over
	}
	f.line.mu.Lock()
	f.closing = true
	f.line.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		refused, heard := f.reports()
		switch {
		case refused && whole, heard && !sent:
			return again
		case refused:
			return lost
		}
		select {
		case <-f.news:
		case <-f.line.ended:
			return f.afterEnd(sent, whole)
		case <-timer.C:
			if _, heard := f.reports(); heard {
				return lost
			}
			return over
		case <-ctx.Done():
			return lost
		}
	}
}

// afterEnd is the verdict when the tunnel has ended: whatever it had to say, it has said.
func (f *flight) afterEnd(sent, whole bool) verdict {
	if refused, _ := f.reports(); !sent || refused && whole {
		return again
	}
	return lost
}

// reports are whether a report says that this connection reached nobody, and whether one came that may be about it.
func (f *flight) reports() (refused, heard bool) {
	f.line.mu.Lock()
	defer f.line.mu.Unlock()
	return f.refused != nil, !f.heard.IsZero() && time.Since(f.heard) <= patience
}

// Dial opens a connection through the attached tunnel, for a probe. It counts in no figure. Where it ends before a
// byte was read, Read returns what the tunnel reported of it, or why the tunnel ended, instead of io.EOF.
func (r *Relay) Dial(ctx context.Context) (net.Conn, error) {
	at := r.standing()
	if at.line == nil {
		return nil, ErrNoTunnel
	}
	f, err := at.line.dial(ctx)
	if err != nil {
		return nil, err
	}
	return &probeConn{Conn: f.conn, flight: f}, nil
}

type probeConn struct {
	net.Conn
	flight *flight
	got    atomic.Bool
}

func (p *probeConn) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	if n > 0 && p.got.CompareAndSwap(false, true) {
		p.flight.answered()
	}
	var timeout net.Error
	if n > 0 || err == nil || p.got.Load() || errors.As(err, &timeout) && timeout.Timeout() {
		return n, err
	}
	return 0, p.flight.why(err)
}

// why is what the tunnel says of a connection that ended with err.
func (f *flight) why(err error) error {
	if f.verdict(context.Background(), true, true) == again {
		f.line.mu.Lock()
		defer f.line.mu.Unlock()
		return f.refused
	}
	select {
	case <-f.line.tunnel.Done():
		if cause := f.line.tunnel.Err(); cause != nil {
			return cause
		}
	default:
	}
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	return err
}

func (p *probeConn) Close() error {
	p.flight.land()
	return p.Conn.Close()
}
