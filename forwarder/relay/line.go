package relay

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// ErrNoTunnel is what Dial returns while no tunnel is attached.
var ErrNoTunnel = errors.New("there is no tunnel")

// patience is how long a tunnel that closed a connection is given to say why, and how long a connection must stay open
// to show that the far end took it.
const patience = time.Second

// The pace of attempts on a tunnel whose far end refuses.
const (
	leastPace = 100 * time.Millisecond
	mostPace  = time.Second
)

// line is an attached tunnel, with the connections that are in flight on it: dialled, not settled, and without an
// answer yet. A report that names no connection is about one of them.
type line struct {
	relay  *Relay
	tunnel forwarder.Tunnel
	ended  chan struct{} // closed when the tunnel has ended and all it said was taken

	mu      sync.Mutex
	flights map[*flight]struct{}
	doubted *doubt // the far end refused, and nothing has got through since; else nil
}

// doubt is a time in which a line is suspect. Clients are let through one at a time, so that the next report has one
// that it can be about.
type doubt struct {
	turn   chan struct{} // holds a token: who has it may make an attempt
	lifted chan struct{} // closed when something got through
	pace   time.Duration // before the next attempt
}

func newLine(r *Relay, t forwarder.Tunnel) *line {
	return &line{relay: r, tunnel: t, ended: make(chan struct{}), flights: make(map[*flight]struct{})}
}

// listen takes what the tunnel says until it ends or the relay is closed.
func (l *line) listen() {
	defer l.relay.Detach(l.tunnel)
	defer close(l.ended)
	for {
		select {
		case refusal := <-l.tunnel.Refusals():
			l.report(refusal)
		case <-l.tunnel.Done():
			l.drain()
			return
		case <-l.relay.ctx.Done():
			return
		}
	}
}

// drain takes what the tunnel said before it ended.
func (l *line) drain() {
	for {
		select {
		case refusal := <-l.tunnel.Refusals():
			l.report(refusal)
		default:
			return
		}
	}
}

// report gives a report to the connections that it is, or may be, about.
func (l *line) report(refusal forwarder.Refusal) {
	l.mu.Lock()
	now := time.Now()
	for f := range l.flights {
		if refusal.Conn != nil && refusal.Conn != f.conn {
			continue
		}
		f.heard = now
		if refusal.Connect && (refusal.Conn != nil || len(l.flights) == 1) {
			f.refused = &refusal
		}
		select {
		case f.news <- struct{}{}:
		default:
		}
	}
	l.mu.Unlock()
	l.refusedBy(refusal)
}

// refusedBy makes the line suspect if the far end refused, and tells.
func (l *line) refusedBy(refusal forwarder.Refusal) {
	if refusal.Connect {
		l.suspect()
	}
	if l.relay.o.OnRefusal != nil {
		l.relay.o.OnRefusal(refusal)
	}
}

// suspect begins a doubt, or slows down the one there is.
func (l *line) suspect() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.doubted != nil {
		l.doubted.pace = min(2*l.doubted.pace, mostPace)
		return
	}
	l.doubted = &doubt{turn: make(chan struct{}, 1), lifted: make(chan struct{}), pace: leastPace}
	l.doubted.turn <- struct{}{}
}

// prove lifts the doubt: something got through.
func (l *line) prove() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.doubted != nil {
		close(l.doubted.lifted)
		l.doubted = nil
	}
}

// suspicion is the doubt that clients have to heed, and the time to let pass before the next attempt; nil if none.
func (l *line) suspicion() (*doubt, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.doubted == nil {
		return nil, 0
	}
	return l.doubted, l.doubted.pace - rand.N(l.doubted.pace/4)
}

// dial opens a connection, which is then in flight. A refusal that the tunnel answers with at once makes the line
// suspect.
func (l *line) dial(ctx context.Context) (*flight, error) {
	conn, err := l.tunnel.Dial(ctx)
	if err == nil {
		return l.fly(conn), nil
	}
	var refusal *forwarder.Refusal
	switch {
	case errors.As(err, &refusal):
		l.refusedBy(*refusal)
	case ctx.Err() == nil:
		l.suspect() // only for its pace: the tunnel is about to say why
	}
	return nil, err
}

func (l *line) fly(conn net.Conn) *flight {
	f := &flight{line: l, conn: conn, news: make(chan struct{}, 1)}
	l.mu.Lock()
	l.flights[f] = struct{}{}
	suspect := l.doubted != nil
	l.mu.Unlock()
	switch {
	case l.tunnel.Acknowledges():
		f.answered()
	case suspect:
		f.staying = time.AfterFunc(patience, func() {
			if f.flies() {
				l.prove()
			}
		})
	}
	return f
}
