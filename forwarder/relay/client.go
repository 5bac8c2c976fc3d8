package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"time"
)

// client is one accepted connection on its way to the far end.
type client struct {
	relay  *Relay
	conn   *stream
	record record
	ctx    context.Context // ends when the client resets, and with the relay
	cancel context.CancelCauseFunc
	by     time.Time // when it is reset if it has got nowhere

	attempts int
	waiting  time.Time // since when it waits; zero while it does not
	waited   bool
}

var (
	errGone   = errors.New("the client reset the connection")
	errTurned = errors.New("clients are turned away")
)

// serve takes a client from accept to its end.
func (r *Relay) serve(conn *net.TCPConn) {
	defer conn.Close()
	r.counts.total.Add(1)
	stream, err := newStream(conn)
	if err != nil {
		return
	}
	c := &client{relay: r, conn: stream, by: time.Now().Add(time.Duration(r.timeout.Load()))}
	c.ctx, c.cancel = context.WithCancelCause(r.ctx)
	defer c.cancel(nil)
	for c.attempt() == tryAgain {
	}
	c.wait(false)
}

// outcome is what came of an attempt.
type outcome int

const (
	ended    outcome = iota // the client has got what it came for, or was reset
	tryAgain                // nothing of it reached anybody
)

// attempt waits until it may make one, dials, and carries the client if it gets through.
func (c *client) attempt() outcome {
	ctx, cancel := context.WithDeadline(c.ctx, c.by)
	defer cancel()
	l, decided, err := c.admission(ctx)
	if err != nil {
		c.conn.reset()
		return ended
	}
	defer decided()
	c.attempts++
	if c.attempts > 1 {
		c.relay.counts.replays.Add(1)
	}
	f, err := l.dial(ctx)
	if err != nil {
		c.wait(true)
		return tryAgain // until the deadline, which admission keeps
	}
	defer f.land()
	up, err := newStream(f.conn)
	if err != nil {
		f.conn.Close()
		c.conn.reset()
		return ended
	}
	c.wait(false)
	c.open(true)
	defer c.open(false)
	return c.carry(f, up, decided)
}

// wait counts the client among those that wait, or takes it out.
func (c *client) wait(waits bool) {
	n := &c.relay.counts
	switch {
	case waits && c.waiting.IsZero():
		c.waiting = time.Now()
		n.waiting.Add(1)
	case !waits && !c.waiting.IsZero():
		n.waiting.Add(-1)
		n.waitTime.Add(int64(time.Since(c.waiting)))
		c.waiting = time.Time{}
		if !c.waited {
			c.waited = true
			n.waited.Add(1)
		}
	}
}

// open counts the client among those that have a connection, or takes it out.
func (c *client) open(is bool) {
	if is {
		c.relay.counts.open.Add(1)
		return
	}
	if c.relay.counts.open.Add(-1) == 0 && c.relay.o.OnQuiet != nil {
		c.relay.o.OnQuiet()
	}
}

// admission waits until the client may make an attempt. decided is to be called, once or more, when it is known what
// came of it. The error says why the client is to be reset instead.
func (c *client) admission(ctx context.Context) (l *line, decided func(), err error) {
	var unwatch func()
	defer func() {
		if unwatch != nil {
			unwatch()
		}
	}()
	for {
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		at := c.relay.standing()
		var doubted *doubt
		var pace time.Duration
		if at.line != nil {
			if doubted, pace = at.line.suspicion(); doubted == nil {
				return at.line, func() {}, nil
			}
		} else if at.reject {
			return nil, nil, errTurned
		}
		c.wait(true)
		if unwatch == nil {
			unwatch = c.watch()
		}
		if at.line == nil {
			if c.relay.o.OnWaiting != nil {
				c.relay.o.OnWaiting()
			}
			err = at.wait(ctx, nil, nil, nil)
		} else if decided, err = c.turn(ctx, at, doubted, pace); decided != nil {
			return at.line, decided, nil
		}
		if err != nil {
			return nil, nil, err
		}
	}
}

// turn waits for the client's turn on a suspect line, and then for the line's pace. Both results are nil if the client
// is to look again where it stands.
func (c *client) turn(ctx context.Context, at standing, d *doubt, pace time.Duration) (decided func(), err error) {
	mine := false
	if err := at.wait(ctx, d.lifted, d.turn, &mine); err != nil || !mine {
		return nil, err
	}
	give := func() {
		select {
		case d.turn <- struct{}{}:
		default: // given back already
		}
	}
	timer := time.NewTimer(pace)
	defer timer.Stop()
	select {
	case <-timer.C:
		return give, nil
	case <-d.lifted:
	case <-at.changed:
	case <-at.drop:
		err = errTurned
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	give()
	return nil, err
}

// wait waits until the client is to look again where it stands, or has its turn. The error says why it is to be reset.
func (at standing) wait(ctx context.Context, lifted, turn <-chan struct{}, mine *bool) error {
	select {
	case <-turn:
		*mine = true
		return nil
	case <-lifted:
		return nil
	case <-at.changed:
		return nil
	case <-at.drop:
		return errTurned
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// watch notices a client that resets while it waits; what it has sent is left where it is. The returned function ends
// the watch.
func (c *client) watch() func() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.conn.peek(); err != nil && !interrupted(err) {
			c.cancel(errGone)
		}
	}()
	return func() {
		c.conn.interrupt()
		<-done
		c.conn.resume()
	}
}

// carry sends the client's bytes up and brings the answer down, for as long as there is something to carry. An early
// end may be a reason for another attempt.
func (c *client) carry(f *flight, up *stream, decided func()) outcome {
	defer up.close()
	stop := context.AfterFunc(c.ctx, func() {
		up.reset()
		if c.relay.ctx.Err() != nil {
			c.conn.reset()
		}
	})
	defer stop()
	s := c.send(up)
	defer func() { s.stop() }()

	if !f.line.tunnel.Acknowledges() {
		switch outcome, err := c.first(f, up, s); {
		case outcome == tryAgain:
			return tryAgain
		case err != nil:
			c.conn.reset()
			return ended
		}
	}
	decided()
	c.proven()
	return c.down(f, up, s)
}

// proven ends the recording: the far end has the client.
func (c *client) proven() {
	c.record.close()
	if c.relay.o.OnProof != nil {
		c.relay.o.OnProof()
	}
}

// first waits for the first byte of the answer and passes it on. Where the connection ends before, the tunnel's report
// decides. The error says that the client is to be reset.
func (c *client) first(f *flight, up *stream, s *sender) (outcome, error) {
	b, err := up.read()
	if err == nil {
		f.answered()
		defer b.free()
		return ended, c.answer(b)
	}
	if c.ctx.Err() != nil {
		return ended, context.Cause(c.ctx)
	}
	clean := s.stop()
	sent, whole := c.record.state()
	switch f.verdict(c.ctx, sent, whole) {
	case again:
		c.record.rewind()
		c.wait(true)
		return tryAgain, nil
	case over:
		if errors.Is(err, io.EOF) && clean {
			s.start() // the far end has stopped speaking; it may still be listening
			return ended, nil
		}
	}
	return ended, err
}

// answer passes bytes of the far end on.
func (c *client) answer(b *buffer) error {
	c.relay.counts.lastByte.Store(time.Now().UnixNano())
	n, err := c.conn.conn.Write(b.bytes())
	c.relay.counts.bytesOut.Add(uint64(n))
	return err
}

// down brings the answer down until it ends, passes its end on as it came, and waits for the client's own.
func (c *client) down(f *flight, up *stream, s *sender) outcome {
	err := transfer(c.conn, up, func(n int) {
		c.relay.counts.bytesOut.Add(uint64(n))
		c.relay.counts.lastByte.Store(time.Now().UnixNano())
	})
	var write *writeError
	switch {
	case errors.As(err, &write): // the client has gone
		up.reset()
	case !errors.Is(err, io.EOF): // the far end reset, or the client did and the sender has seen it
		c.conn.reset()
	case c.conn.closeWrite() == nil && !up.hungUp():
		select {
		case <-s.done:
		case <-f.line.ended:
		case <-c.ctx.Done():
		}
	}
	return ended
}
