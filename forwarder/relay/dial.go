package relay

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// ErrNoTunnel is returned by Dial while no tunnel is attached.
var ErrNoTunnel = errors.New("no tunnel is up")

// Dial connects through the attached tunnel for a probe. It waits for nothing, and the connection counts in no figure,
// but a report of the tunnel's may be about it as about any other. Where the connection ends before a byte was read,
// Read waits up to a second for such a report, or for the tunnel's end, and returns that *forwarder.Refusal, or the
// tunnel's error, in the place of the end. That wait is cut short by Close, and by setting a deadline that has passed.
func (r *Relay) Dial(ctx context.Context) (net.Conn, error) {
	r.mu.Lock()
	l := r.link
	if l == nil || r.closed {
		r.mu.Unlock()
		return nil, ErrNoTunnel
	}
	f := l.flights.launch()
	r.mu.Unlock()

	conn, err := l.tunnel.Dial(ctx)
	now, acknowledged := time.Now(), l.tunnel.Acknowledges()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		_, refused := errors.AsType[*forwarder.Refusal](err)
		l.flights.failed(f, refused, now)
		if refused {
			l.doubt(nil, now)
		}
		return nil, err
	}
	l.flights.made(f, conn)
	if acknowledged {
		r.prove(l, now)
	}
	return &probed{Conn: conn, relay: r, link: l, flight: f, hurry: make(chan struct{})}, nil
}

// probed is a probe's connection.
type probed struct {
	net.Conn
	relay  *Relay
	link   *link
	flight *flight
	landed sync.Once
	hurry  chan struct{} // closed when nobody wants to wait for a report
	rush   sync.Once
}

func (p *probed) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	if n > 0 {
		p.landed.Do(p.land)
	}
	switch {
	case n > 0, err == nil, errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
		return n, err
	}
	p.landed.Do(func() { err = p.why(err) })
	return n, err
}

func (p *probed) land() {
	now, r := time.Now(), p.relay
	r.mu.Lock()
	defer r.mu.Unlock()
	p.link.flights.land(p.flight)
	r.prove(p.link, now)
}

// why is the reason of an end before the first byte, where the tunnel gives one.
func (p *probed) why(end error) error {
	r := p.relay
	r.end(p.link, p.flight)
	w := r.hear(p.link, p.flight, false, p.hurry)
	r.settle(p.link, p.flight)
	switch {
	case w.own != nil:
		return w.own
	case w.vague != nil:
		return w.vague
	case w.over && p.link.tunnel.Err() != nil:
		return p.link.tunnel.Err()
	}
	return end
}

func (r *Relay) settle(l *link, f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.flights.land(f)
}

func (r *Relay) end(l *link, f *flight) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	l.flights.end(f, now)
}

// Close also ends a Read that waits for a report.
func (p *probed) Close() error {
	p.hasten()
	p.relay.end(p.link, p.flight)
	return p.Conn.Close()
}

// SetDeadline also ends a Read that waits for a report, if the deadline has passed.
func (p *probed) SetDeadline(t time.Time) error {
	p.hastenAfter(t)
	return p.Conn.SetDeadline(t)
}

// SetReadDeadline also ends a Read that waits for a report, if the deadline has passed.
func (p *probed) SetReadDeadline(t time.Time) error {
	p.hastenAfter(t)
	return p.Conn.SetReadDeadline(t)
}

func (p *probed) hastenAfter(t time.Time) {
	if !t.IsZero() && !t.After(time.Now()) {
		p.hasten()
	}
}

func (p *probed) hasten() { p.rush.Do(func() { close(p.hurry) }) }
