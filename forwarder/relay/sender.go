package relay

import (
	"errors"
	"io"
)

// sender sends one client's bytes up one connection, in a goroutine of its own.
type sender struct {
	client *client
	up     *stream
	done   chan struct{} // closed when the goroutine has ended
	err    error         // why; nil after the client's end was passed on. Valid after done.
}

func (c *client) send(up *stream) *sender {
	s := &sender{client: c, up: up}
	s.start()
	return s
}

func (s *sender) start() {
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		s.err = s.run()
	}()
}

// stop makes the goroutine end and waits for it. It reports whether start may be called to go on where it ended:
// whether no byte was taken from the client that is neither recorded nor sent on.
func (s *sender) stop() bool {
	s.client.conn.interrupt()
	s.up.interruptWrite()
	<-s.done
	s.client.conn.resume()
	s.up.resume()
	var write *writeError
	return s.err == nil || interrupted(s.err) && !errors.As(s.err, &write)
}

// run returns nil when it has passed the client's end on.
func (s *sender) run() error {
	c := s.client
	for {
		bytes, eof, keeping := c.record.pending()
		switch {
		case len(bytes) > 0:
			n, err := s.up.conn.Write(bytes)
			c.record.wrote(n)
			if err != nil {
				return err
			}
		case eof:
			return s.up.closeWrite()
		case keeping:
			if err := s.take(); err != nil {
				return s.failed(err)
			}
		default:
			if err := s.stream(); err != nil {
				return s.failed(err)
			}
		}
	}
}

// take reads once, into the record or, where that is closed or full, straight on.
func (s *sender) take() error {
	b, err := s.client.conn.read()
	if errors.Is(err, io.EOF) {
		s.client.record.end()
		return nil
	}
	if err != nil {
		return err
	}
	defer b.free()
	s.client.relay.counts.bytesIn.Add(uint64(b.n))
	if s.client.record.keep(b.bytes()) {
		return nil
	}
	if _, err := s.up.conn.Write(b.bytes()); err != nil {
		return &writeError{err}
	}
	return nil
}

// stream copies what need not be recorded, until the client's end.
func (s *sender) stream() error {
	s.client.record.keep(nil)
	err := transfer(s.up, s.client.conn, func(n int) { s.client.relay.counts.bytesIn.Add(uint64(n)) })
	if errors.Is(err, io.EOF) {
		s.client.record.end()
		return nil
	}
	return err
}

// failed passes a client's reset on to the far end.
func (s *sender) failed(err error) error {
	var write *writeError
	if !interrupted(err) && !errors.As(err, &write) {
		s.client.cancel(errGone)
		s.up.reset()
	}
	return err
}
